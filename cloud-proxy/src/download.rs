//! The device's response body on its way to the client.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::AbortHandle;

use crate::{
    account::{self, Account, End},
    admit::LeaseEnd,
    upload::without_forbidden_trailers,
};

/// A response body as hyper's server takes it. Its end, or its being dropped, ends the stream to the device.
///
/// It ends as complete only if the device's framing said so; anything else is an error, upon which the server
/// aborts the client connection.
pub(crate) struct Download {
    /// What came together with the head.
    first: Option<hyper::Result<Frame<Bytes>>>,
    inner: Incoming,
    bytes: Arc<account::Bytes>,
    /// `None` once the end was accounted for.
    rest: Option<Rest>,
}

struct Rest {
    account: Account,
    line: Line,
}

/// The task that drives the connection over the tunnel stream. Dropping it resets the stream, also where the
/// response ended before the request body: hyper would go on writing (hyperium/hyper#4176).
#[derive(Debug)]
pub(crate) struct Line {
    /// `None` where nothing is to come any more.
    task: Option<AbortHandle>,
    /// Set if we ended the stream because its lease had ended.
    cut: Arc<OnceLock<LeaseEnd>>,
}

impl Line {
    pub(crate) fn new(task: Option<AbortHandle>, cut: Arc<OnceLock<LeaseEnd>>) -> Self {
        Self { task, cut }
    }

    /// Why the lease ended, if it did.
    pub(crate) fn cut(&self) -> Option<LeaseEnd> {
        self.cut.get().copied()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Download {
    /// The body of which this is the `first` part and that the rest.
    pub(crate) fn new(
        first: Option<hyper::Result<Frame<Bytes>>>,
        inner: Incoming,
        account: Account,
        line: Line,
    ) -> Self {
        Self { first, inner, bytes: account.bytes(), rest: Some(Rest { account, line }) }
    }

    fn end(&mut self, error: Option<&hyper::Error>) {
        let Some(Rest { mut account, line }) = self.rest.take() else { return };
        account.ended(match (error, line.cut()) {
            (None, _) => End::Complete,
            (Some(_), Some(end)) => End::Cut(end.as_str()),
            (Some(error), None) => End::Broken(with_causes(error)),
        });
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(Pin::new(&mut self.inner).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => self.bytes.down(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => self.end(Some(error)),
            None => self.end(None),
        }
        Poll::Ready(frame.map(|frame| frame.map(without_forbidden_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut whole) = (self.inner.size_hint(), SizeHint::new());
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        let first = first.map_or(0, |data| data.len() as u64);
        if let Some(most) = rest.upper() {
            whole.set_upper(most + first);
        }
        whole.set_lower(rest.lower() + first);
        whole
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // The server stops asking at the last byte of a body of known length.
        if self.is_end_stream() {
            self.end(None);
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
