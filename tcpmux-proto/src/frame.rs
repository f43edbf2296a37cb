//! The 12 bytes every frame of yamux v0 begins with.
//!
//! ```text
//! 0        1        2                 4                                   8                                  12
//! ├ version┼ type   ┼ flags           ┼ stream id                         ┼ length                            ┤
//! ```
//! Big endian. `length` is the size of the payload (Data), the credit (WindowUpdate), the opaque value (Ping) or
//! the code (GoAway). Only Data has a payload.

/// A frame header that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame does.
    pub kind: FrameKind,
    /// Any of [`SYN`], [`ACK`], [`FIN`], [`RST`].
    pub flags: u16,
    /// The stream; 0 for Ping and GoAway.
    pub stream: u32,
    /// Payload size, credit, opaque value or code.
    pub length: u32,
}

/// The four types of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Bytes of a stream.
    Data = 0,
    /// Credit for a stream.
    WindowUpdate = 1,
    /// A question (SYN) or its answer (ACK).
    Ping = 2,
    /// The speaker takes no new streams (code 0) or ends the session (other codes).
    GoAway = 3,
}

/// Why 12 bytes are not a frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("frame version {0} is not 0")]
    Version(u8),
    /// A type without meaning.
    #[error("frame type {0} is not known")]
    Kind(u8),
    /// A flag without meaning.
    #[error("frame flags {0:#06x} are not known")]
    Flags(u16),
    /// A ping that is neither question nor answer, or both; a GoAway with flags.
    #[error("flags {flags:#06x} make no sense on a {kind:?} frame")]
    FlagsOfKind {
        /// The type.
        kind: FrameKind,
        /// Its flags.
        flags: u16,
    },
    /// A frame about a stream without one, or one about the session with one.
    #[error("a {kind:?} frame cannot be about stream {stream}")]
    Stream {
        /// The type.
        kind: FrameKind,
        /// The stream it names.
        stream: u32,
    },
}

impl FrameHeader {
    /// A Data header.
    pub fn data(stream: u32, flags: u16, length: u32) -> Self {
        Self { kind: FrameKind::Data, flags, stream, length }
    }

    /// A WindowUpdate header.
    pub fn window_update(stream: u32, flags: u16, credit: u32) -> Self {
        Self { kind: FrameKind::WindowUpdate, flags, stream, length: credit }
    }

    /// A Ping header: `SYN` asks, `ACK` answers.
    pub fn ping(flags: u16, opaque: u32) -> Self {
        Self { kind: FrameKind::Ping, flags, stream: 0, length: opaque }
    }

    /// A GoAway header.
    pub fn go_away(code: u32) -> Self {
        Self { kind: FrameKind::GoAway, flags: 0, stream: 0, length: code }
    }

    /// A reset of a stream.
    pub fn reset(stream: u32) -> Self {
        Self::data(stream, RST, 0)
    }

    /// Whether all of these flags are set.
    pub fn has(self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// The bytes on the wire.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[1] = self.kind as u8;
        out[2..4].copy_from_slice(&self.flags.to_be_bytes());
        out[4..8].copy_from_slice(&self.stream.to_be_bytes());
        out[8..].copy_from_slice(&self.length.to_be_bytes());
        out
    }

    /// Reads a header; anything unusual is an error.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(FrameError::Version(version));
        }
        let kind = match kind {
            0 => FrameKind::Data,
            1 => FrameKind::WindowUpdate,
            2 => FrameKind::Ping,
            3 => FrameKind::GoAway,
            other => return Err(FrameError::Kind(other)),
        };
        let flags = u16::from_be_bytes([f0, f1]);
        if flags & !(SYN | ACK | FIN | RST) != 0 {
            return Err(FrameError::Flags(flags));
        }
        let fits = match kind {
            FrameKind::Data | FrameKind::WindowUpdate => true,
            FrameKind::Ping => flags == SYN || flags == ACK,
            FrameKind::GoAway => flags == 0,
        };
        if !fits {
            return Err(FrameError::FlagsOfKind { kind, flags });
        }
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let about_session = matches!(kind, FrameKind::Ping | FrameKind::GoAway);
        if about_session != (stream == 0) {
            return Err(FrameError::Stream { kind, stream });
        }
        Ok(Self { kind, flags, stream, length: u32::from_be_bytes([l0, l1, l2, l3]) })
    }
}

/// Size of a frame header.
pub const HEADER_LEN: usize = 12;
/// Opens a stream, or asks (Ping).
pub const SYN: u16 = 1;
/// Acknowledges a stream, or answers (Ping).
pub const ACK: u16 = 2;
/// The speaker sends no more on this stream.
pub const FIN: u16 = 4;
/// The stream is over, both ways, now.
pub const RST: u16 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_has_these_bytes() {
        let header = FrameHeader::data(0x0102_0304, SYN | FIN, 0x0a0b_0c0d);
        assert_eq!(header.encode(), [0, 0, 0, 5, 1, 2, 3, 4, 10, 11, 12, 13]);
        assert_eq!(FrameHeader::ping(ACK, 7).encode(), [0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(FrameHeader::go_away(1).encode(), [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(FrameHeader::reset(2).encode(), [0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases: [([u8; 12], FrameError); 7] = [
            ([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], FrameError::Version(1)),
            ([0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], FrameError::Kind(4)),
            ([0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0], FrameError::Flags(16)),
            (
                [0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0],
                FrameError::FlagsOfKind { kind: FrameKind::Ping, flags: 3 },
            ),
            (
                [0, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0],
                FrameError::FlagsOfKind { kind: FrameKind::GoAway, flags: 8 },
            ),
            ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], FrameError::Stream { kind: FrameKind::Data, stream: 0 }),
            ([0, 2, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0], FrameError::Stream { kind: FrameKind::Ping, stream: 9 }),
        ];
        for (bytes, error) in cases {
            assert_eq!(FrameHeader::decode(bytes), Err(error));
        }
    }

    proptest! {
        #[test]
        fn what_can_be_read_is_written_back_the_same(bytes: [u8; 12]) {
            let mut bytes = bytes;
            bytes[0] = 0;
            bytes[1] &= 3;
            bytes[2] = 0;
            bytes[3] &= 15;
            if let Ok(header) = FrameHeader::decode(bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
