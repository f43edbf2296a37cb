//! Why a session cannot go on.

use crate::frame::FrameError;

/// What a peer did that no correct peer does. Each ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A header that makes no sense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More payload in one frame than anyone may send.
    #[error("a data frame of {length} bytes on stream {stream}: at most {MAX_INBOUND_FRAME} are allowed")]
    FrameTooLarge {
        /// The stream.
        stream: u32,
        /// What the header announces.
        length: u32,
    },
    /// More bytes than the window had room for.
    #[error("{length} bytes on stream {stream} exceed its window of {window}")]
    WindowExceeded {
        /// The stream.
        stream: u32,
        /// What the header announces.
        length: u32,
        /// What was left.
        window: u32,
    },
    /// Credit that adds up to more than 2³² − 1 bytes.
    #[error("the credit of stream {0} overflows")]
    CreditOverflow(u32),
    /// A SYN with an id that belongs to the other side.
    #[error("stream {0} was opened with an id of the wrong parity")]
    WrongParity(u32),
    /// A SYN with an id that was used before.
    #[error("stream id {0} was used before")]
    IdReused(u32),
    /// A frame about a stream that nobody ever opened.
    #[error("stream {0} was never opened")]
    NeverOpened(u32),
    /// An ACK of a stream that the peer itself opened, or a second one.
    #[error("stream {0} was acknowledged without need")]
    ForgedAck(u32),
    /// Bytes or a second FIN after a FIN.
    #[error("stream {0} went on after its end")]
    AfterFin(u32),
    /// More questions than anyone needs to ask.
    #[error("too many pings")]
    PingFlood,
    /// More streams refused, or frames about closed streams, than can happen by accident.
    #[error("too many refused streams or frames about closed streams")]
    StrayFlood,
    /// Bytes for closed streams beyond the credit they still had.
    #[error("bytes for closed streams exceed what could be on the way")]
    StrayBytes,
    /// Answers pile up that the peer does not read.
    #[error("the peer asks faster than it reads the answers")]
    UnreadReplies,
}

/// The longest payload of one frame that is accepted.
pub const MAX_INBOUND_FRAME: u32 = 1 << 20;
