//! The client's request body on its way to the device, or to nowhere.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use runtime::RequestBody;
use tokio::{sync::Notify, time::Instant};

use crate::{account, headers::filter_trailers};

/// A request body as hyper's client takes it: what passes is counted, and the time of the last progress is kept.
pub(crate) struct Upload {
    inner: RequestBody,
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    progress: Arc<Progress>,
    bytes: Arc<account::Bytes>,
}

/// When a body last moved.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    /// Milliseconds after `begun`.
    last: AtomicU64,
}

impl Upload {
    pub(crate) fn new(inner: RequestBody, bytes: Arc<account::Bytes>) -> Self {
        Self {
            inner,
            gate: None,
            progress: Arc::new(Progress { begun: Instant::now(), last: AtomicU64::new(0) }),
            bytes,
        }
    }

    /// Whether there is no byte in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    /// Holds the body back until the device said `100 Continue`, or long enough: not every service says it.
    ///
    /// The client in turn is told to continue when the body is first asked for. So a device that refuses by its
    /// head alone spares the client the whole upload.
    pub(crate) fn hold_until(&mut self, told: Arc<Notify>) {
        self.gate = Some(Box::pin(async move {
            let _ = tokio::time::timeout(CONTINUE_AFTER, told.notified()).await;
        }));
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Progress {
    /// The moment of the last progress, or of the beginning.
    pub(crate) fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    fn made(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.progress.made();
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.bytes.up(data.len());
        }
        Poll::Ready(frame.map(|frame| frame.map(without_forbidden_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The frame; if it holds trailers, only those that may come after a body.
pub(crate) fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(filter_trailers(trailers)),
        Err(frame) => frame,
    }
}

/// For how long a client that asked for `100 Continue` is kept waiting for the device's own.
const CONTINUE_AFTER: Duration = Duration::from_secs(1);
