//! The 12 bytes of a frame header.

use tcpmux_proto::frame::{FrameHeader, HEADER_LEN};

/// What is read is written back the same, so that no two readings of the same bytes exist.
pub(super) fn frame(bytes: &[u8]) {
    for chunk in bytes.chunks_exact(HEADER_LEN) {
        let chunk: [u8; HEADER_LEN] = chunk.try_into().expect("chunks have this length");
        if let Ok(header) = FrameHeader::decode(chunk) {
            assert_eq!(header.encode(), chunk);
        }
    }
}
