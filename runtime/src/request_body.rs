//! The body of a request, of which nothing is left lying when nobody wants it.
//!
//! A client that is answered before it has sent everything often reads the answer only then. Where the connection
//! is closed at once, its system reports a broken connection instead, and may throw away an answer that has arrived
//! (RFC 9112 §9.6). So what is left of an unwanted body is read and thrown away for a moment.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Version,
    body::{Body, Frame, Incoming, SizeHint},
    header::EXPECT,
};

use crate::Tasks;

/// The body of a request as it arrives. Dropped before its end, it goes on being read: two seconds or 8 MiB at most.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` once it has ended.
    inner: Option<Incoming>,
    /// Where the rest is thrown away; `None` where it need not be.
    leftovers: Option<Tasks>,
}

impl RequestBody {
    /// The request with its body in care.
    ///
    /// The rest is not read with HTTP/2, where a frame cancels it; nor for a client that waits to be told to
    /// continue: asking for its body would tell it so, after the answer (RFC 9110 §10.1.1).
    pub fn of(request: Request<Incoming>, tasks: &Tasks) -> Request<Self> {
        let sends_unasked = request.version() < Version::HTTP_2 && !request.headers().contains_key(EXPECT);
        request.map(|inner| {
            let has_more = !inner.is_end_stream();
            Self { inner: Some(inner), leftovers: (sends_unasked && has_more).then(|| tasks.clone()) }
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.inner = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let left = self.inner.take().filter(|inner| !inner.is_end_stream());
        if let (Some(left), Some(tasks)) = (left, &self.leftovers) {
            tasks.spawn(async move { tokio::time::timeout(TIME, throw_away(left)).await });
        }
    }
}

async fn throw_away(mut body: Incoming) {
    let mut count = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        && count < BYTES
    {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
}

const TIME: Duration = Duration::from_secs(2);
const BYTES: usize = 8 * 1024 * 1024;
