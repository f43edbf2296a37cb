//! The handle of a live session.

use std::{future::ready, sync::Arc, time::Duration};

use model::DisconnectCause;
use tokio::time::Instant;

use crate::{Hello, OpenError, StreamHeader, TunnelStream};

/// A live session. Clones are the same session; when the last one is dropped the session ends.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    hello: Arc<Hello>,
}

impl SessionHandle {
    /// Opens a stream; nothing is sent until its first write, flush or [`TunnelStream::accepted`].
    ///
    /// Fails at once with [`OpenError::Busy`] at the limit of streams, [`OpenError::Draining`] when either side
    /// drains, [`OpenError::Lost`] when the session has ended.
    pub fn open(&self, header: StreamHeader) -> Result<TunnelStream, OpenError> {
        let _ = header;
        Err(OpenError::Lost)
    }

    /// What the device said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Ends the session now: every stream fails with `ConnectionAborted`, [`Self::closed`] resolves with the cause.
    ///
    /// The first cause counts. What was already sent on the control stream still leaves, for at most two seconds.
    pub fn close(&self, cause: DisconnectCause) {
        let _ = cause;
    }

    /// Opens no more streams and tells the peer to open none; live ones go on.
    pub fn drain(&self) {}

    /// Whether either side drains.
    pub fn is_draining(&self) -> bool {
        false
    }

    /// Resolves when the session has ended.
    pub async fn closed(&self) -> DisconnectCause {
        ready(DisconnectCause::Lost).await
    }

    /// Resolves when no stream is open (the control stream does not count) or the session has ended.
    pub async fn idle(&self) {
        ready(()).await
    }

    /// When the last byte of the peer arrived.
    pub fn last_heard(&self) -> Instant {
        Instant::now()
    }

    /// The smallest round trip measured lately; `None` before the first measurement.
    pub fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// Streams open now, in both directions, without the control stream.
    pub fn stream_count(&self) -> usize {
        0
    }

    /// How many streams this session can still open before its ids run out (2³⁰ at the start). Begin a new
    /// session before this is 0: then every open is [`OpenError::Draining`].
    pub fn opens_left(&self) -> u32 {
        0
    }
}
