//! Streams that the cloud opens, as the device meets them.

use std::future::ready;

use crate::{OpenError, StreamHeader, TunnelStream};

/// The queue of streams whose header has arrived. Dropping it resets those and all later ones.
#[derive(Debug)]
pub struct Incoming {
    _private: (),
}

impl Incoming {
    /// The next stream; `None` when the session has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<IncomingStream> {
        ready(None).await
    }
}

/// A stream that waits for the device's answer. Dropped without one, it is reset.
#[derive(Debug)]
#[must_use]
pub struct IncomingStream {
    /// What the cloud said about it.
    pub header: StreamHeader,
    stream: TunnelStream,
}

impl IncomingStream {
    /// Answers that the local connection stands; then bytes flow.
    pub async fn accept(self) -> TunnelStream {
        ready(self.stream).await
    }

    /// Answers why not, and ends the stream. [`OpenError::Offline`] and [`OpenError::Lost`] have no answer on the
    /// wire: the stream is reset.
    pub fn reject(self, error: OpenError) {
        let _ = error;
    }
}
