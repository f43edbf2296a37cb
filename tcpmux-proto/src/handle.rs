//! The handle of a live session.

use std::{sync::Arc, time::Duration};

use model::DisconnectCause;
use tokio::time::Instant;

use crate::{Hello, OpenError, StreamHeader, TunnelStream, driver::Shared, mux::OpenRefused};

/// A live session. Clones are the same session; when the last one is dropped the session ends.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    guard: Arc<Guard>,
    hello: Arc<Hello>,
}

/// Ends the session when nobody can use it any more.
#[derive(Debug)]
pub(crate) struct Guard(pub(crate) Arc<Shared>);

impl SessionHandle {
    pub(crate) fn new(guard: Guard, hello: Hello) -> Self {
        Self { guard: Arc::new(guard), hello: Arc::new(hello) }
    }

    /// Opens a stream; nothing is sent until its first write or [`TunnelStream::accepted`].
    ///
    /// Fails at once with [`OpenError::Busy`] at the limit of streams, [`OpenError::Draining`] when either side
    /// drains or ids have run out, [`OpenError::Lost`] when the session has ended, [`OpenError::Forbidden`] on the
    /// device's end (only the cloud opens streams) and for a header outside its limits.
    pub fn open(&self, header: StreamHeader) -> Result<TunnelStream, OpenError> {
        let encoded = header.encode().map_err(|_| OpenError::Forbidden)?;
        let opened = self.shared().act(|state, _| {
            if state.arrivals.is_some() {
                return Err(OpenError::Forbidden);
            }
            state.session.open().map_err(|refused| match refused {
                OpenRefused::Busy => OpenError::Busy,
                OpenRefused::Draining => OpenError::Draining,
                OpenRefused::Ended => OpenError::Lost,
            })
        });
        let shared = Arc::clone(self.shared());
        let stream = TunnelStream::opened(shared, opened?, header.kind, encoded, header.deadline);
        Ok(stream.with_host(self.hello.host_of(&header.service).cloned()))
    }

    /// What the device said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Ends the session now: every stream fails with `ConnectionAborted`, [`Self::closed`] resolves with the cause.
    ///
    /// The first cause counts. What was sent on the control stream still leaves: the driver takes up to half a second.
    pub fn close(&self, cause: DisconnectCause) {
        self.shared().close(cause);
    }

    /// Opens no more streams and tells the peer to open none; live ones go on.
    pub fn drain(&self) {
        self.shared().act(|state, _| state.session.drain());
    }

    /// Whether either side drains.
    pub fn is_draining(&self) -> bool {
        self.shared().look().session.is_draining()
    }

    /// Resolves when the session has ended.
    pub async fn closed(&self) -> DisconnectCause {
        self.shared().wait(|state| state.cause).await
    }

    /// Resolves when no stream is open (the control stream does not count) or the session has ended.
    pub async fn idle(&self) {
        let idle = |state: &crate::driver::State| {
            (state.session.stream_count() == 0 || state.cause.is_some()).then_some(())
        };
        self.shared().wait(idle).await;
    }

    /// When the last byte of the peer arrived.
    pub fn last_heard(&self) -> Instant {
        self.shared().look().last_heard
    }

    /// The smallest round trip measured lately; `None` before the first measurement.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared().look().session.round_trip()
    }

    /// Streams open now, in both directions, without the control stream.
    pub fn stream_count(&self) -> usize {
        self.shared().look().session.stream_count()
    }

    /// Bytes that this session's streams hold here because somebody does not read: a caller, or the device.
    pub fn held_bytes(&self) -> usize {
        self.shared().look().session.held_bytes()
    }

    /// How many streams this session can still open before its ids run out (2³⁰ at the start). Begin a new
    /// session before this is 0: then every open is [`OpenError::Draining`].
    pub fn opens_left(&self) -> u32 {
        self.shared().look().session.opens_left()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.guard.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(DisconnectCause::Closed);
    }
}
