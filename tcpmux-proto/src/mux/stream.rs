//! The state of one stream.

use super::{
    queue::ByteQueue,
    scheduler::Burst,
    window::{INITIAL, ReceiveWindow},
};
use crate::frame::{ACK, SYN};

/// One stream, as the session sees it.
#[derive(Debug)]
pub(super) struct Stream {
    /// Whether we opened it.
    pub(super) ours: bool,
    /// The flag that the first frame we send on it carries: SYN, ACK, then nothing.
    pub(super) announce: u16,
    /// Whether the peer acknowledged it (meaningless where it is theirs).
    pub(super) acknowledged: bool,
    /// Bytes to send, the credit for them, and what follows them.
    pub(super) outgoing: ByteQueue,
    pub(super) credit: u32,
    pub(super) sending: Sending,
    pub(super) burst: Burst,
    /// Bytes received and unread, and the window they came through.
    pub(super) incoming: ByteQueue,
    pub(super) window: ReceiveWindow,
    pub(super) receiving: Receiving,
    /// What of the session's window budget this stream holds.
    pub(super) charged: usize,
    /// The peer reset it.
    pub(super) reset: bool,
    /// Someone holds it; a stream nobody holds lives only until its last bytes have left.
    pub(super) held: bool,
    /// It stands in the scheduler; a window update of it waits.
    pub(super) scheduled: bool,
    pub(super) update_waits: bool,
    /// Who waits for news: see [`Event`](super::Event).
    pub(super) reader_waits: bool,
    pub(super) writer_waits: bool,
    pub(super) drain_waits: bool,
}

/// Our half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// FIN follows the bytes that wait.
    Finishing,
    /// FIN was sent.
    Finished,
}

/// The peer's half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    Open,
    /// FIN was received.
    Finished,
}

impl Stream {
    pub(super) fn ours() -> Self {
        Self::new(true, SYN)
    }

    pub(super) fn theirs() -> Self {
        Self::new(false, ACK)
    }

    fn new(ours: bool, announce: u16) -> Self {
        Self {
            ours,
            announce,
            acknowledged: false,
            outgoing: ByteQueue::default(),
            credit: INITIAL,
            sending: Sending::Open,
            burst: Burst::default(),
            incoming: ByteQueue::default(),
            window: ReceiveWindow::new(),
            receiving: Receiving::Open,
            charged: 0,
            reset: false,
            held: true,
            scheduled: false,
            update_waits: false,
            reader_waits: false,
            writer_waits: false,
            drain_waits: false,
        }
    }

    /// Whether the peer was never told of it.
    pub(super) fn is_unannounced(&self) -> bool {
        self.ours && self.announce == SYN
    }

    /// Whether a data frame could leave now.
    pub(super) fn can_send(&self) -> bool {
        if self.reset {
            return false;
        }
        match self.sending {
            Sending::Open => !self.outgoing.is_empty() && self.credit > 0,
            Sending::Finishing => self.outgoing.is_empty() || self.credit > 0,
            Sending::Finished => false,
        }
    }

    /// Whether both sides sent FIN.
    pub(super) fn is_finished(&self) -> bool {
        self.sending == Sending::Finished && self.receiving == Receiving::Finished
    }
}
