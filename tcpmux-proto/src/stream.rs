//! One byte pipe between the cloud and a service of a device.

use std::{
    any::Any,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{LocalHost, OpenError, Pieces, StreamKind, dial::STATUS_ACCEPTED, driver::Shared, pipe::Pipe};

/// A byte pipe between the cloud and a service of a device.
///
/// - The opener's header leaves together with the first bytes written, or on [`Self::accepted`]. For kinds other than
///   HTTP also on flush and on the first read, so that services that speak first can; HTTP clients flush and read
///   before they write, which must not cost a frame.
/// - The opener's first read waits for the device's status byte; a refusal is an [`io::Error`] that carries an
///   [`OpenError`] (see [`OpenError::from_io`]).
/// - A read of zero bytes means that the peer finished, and nothing else. A reset is
///   [`io::ErrorKind::ConnectionReset`] (after the bytes that arrived before it), the end of the tunnel is
///   [`io::ErrorKind::ConnectionAborted`], without the bytes that were not read yet.
/// - `poll_shutdown` sends FIN, except on the opener's side of [`StreamKind::Http`], where it only flushes: HTTP ends
///   by its own framing and hyper shuts down when it cancels, which must reset.
/// - Dropped before both sides finished, the stream is reset; bytes written before a shutdown still leave first.
#[derive(Debug)]
pub struct TunnelStream {
    pipe: Pipe,
    opening: Opening,
    /// Whether a shutdown is a FIN.
    half_closes: bool,
    kind: StreamKind,
    /// Dropped with the device's answer.
    kept: Option<Box<dyn Any + Send + Sync>>,
    /// At the opener's end: what the service takes for its own name.
    host: Option<LocalHost>,
}

/// How far the opening has come.
#[derive(Debug)]
enum Opening {
    /// The header has not left.
    Unsent { header: Bytes, deadline: Duration, reader: Option<Waker> },
    /// The device has not answered.
    Unanswered { deadline: Pin<Box<Sleep>> },
    /// Bytes flow; on the device's side from the beginning.
    Accepted,
    /// It will never be.
    Refused(OpenError),
}

impl TunnelStream {
    pub(crate) fn opened(
        shared: Arc<Shared>,
        id: u32,
        kind: StreamKind,
        header: Bytes,
        deadline: Duration,
    ) -> Self {
        Self {
            pipe: Pipe::new(shared, id, Bytes::new()),
            opening: Opening::Unsent { header, deadline, reader: None },
            half_closes: kind != StreamKind::Http,
            kind,
            kept: None,
            host: None,
        }
    }

    /// `rest` is what came behind the header.
    pub(crate) fn arrived(shared: Arc<Shared>, id: u32, kind: StreamKind, rest: Bytes) -> Self {
        Self {
            pipe: Pipe::new(shared, id, rest),
            opening: Opening::Accepted,
            half_closes: true,
            kind,
            kept: None,
            host: None,
        }
    }

    /// Sends the header if that has not happened yet and waits for the device's answer, at most the deadline of
    /// the header. Answered once, it returns the same at once again.
    pub async fn accepted(&mut self) -> Result<(), OpenError> {
        let answer = poll_fn(|cx| {
            ready!(self.poll_send_header(cx))?;
            self.poll_answer(cx)
        })
        .await;
        answer.map_err(|error| OpenError::from_io(&error).unwrap_or(OpenError::Lost))
    }

    /// What the service at the other end takes for its own name, as the device said in its hello.
    pub fn host(&self) -> Option<&LocalHost> {
        self.host.as_ref()
    }

    pub(crate) fn with_host(mut self, host: Option<LocalHost>) -> Self {
        self.host = host;
        self
    }

    /// Keeps a value until the device has answered or the stream is gone: a place in a count of pending streams.
    #[must_use]
    pub fn until_answered(mut self, kept: impl Send + Sync + 'static) -> Self {
        self.kept = Some(Box::new(kept));
        self
    }

    /// Waits until the peer has reset the stream or the tunnel has ended: beside whoever reads and writes it, in the
    /// same task. A reader hears of a reset only behind the bytes that came before it.
    pub fn cut(&self) -> impl Future<Output = io::Error> + Send + use<> {
        self.pipe.cut()
    }

    /// Resets the stream: the peer's reads and writes fail. The same as dropping it early, said aloud.
    pub fn reset(self) {
        drop(self);
    }

    /// The device's answer: one byte, before all others. It never waits: a fresh stream has room.
    pub(crate) fn poll_give_answer(
        &mut self,
        cx: &Context<'_>,
        error: Option<OpenError>,
    ) -> Poll<io::Result<()>> {
        let status = error.map_or(Some(STATUS_ACCEPTED), OpenError::status);
        let Some(status) = status else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        self.poll_write_parts(cx, &[IoSlice::new(&[status])]).map_ok(drop)
    }

    /// Takes bytes as they lie in memory, at least one and about `most`; 0 once the peer finished.
    pub(crate) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        pieces: &mut Pieces,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_lead(cx))?;
        ready!(self.poll_answer(cx))?;
        self.pipe.poll_take(cx, most, pieces)
    }

    /// Queues bytes as they find room, without copying large ones; ready when all are queued.
    pub(crate) fn poll_give(&mut self, cx: &Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        if let Opening::Refused(error) = self.opening {
            return Poll::Ready(Err(error.into()));
        }
        ready!(self.poll_send_header(cx))?;
        self.pipe.poll_give(cx, bytes)
    }

    /// FIN behind what was written.
    pub(crate) fn finish(&self) {
        self.pipe.finish();
    }

    fn poll_send_header(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.opening, Opening::Unsent { .. }) {
            ready!(self.poll_write_parts(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    /// What flush and the first read do with an unsent header.
    fn poll_lead(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.kind == StreamKind::Http { Poll::Ready(Ok(())) } else { self.poll_send_header(cx) }
    }

    fn poll_write_parts(&mut self, cx: &Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.opening {
            Opening::Refused(error) => Poll::Ready(Err((*error).into())),
            Opening::Accepted | Opening::Unanswered { .. } => {
                self.pipe.poll_write(cx, &mut Bytes::new(), parts)
            }
            Opening::Unsent { header, deadline, reader } => {
                let count = ready!(self.pipe.poll_write(cx, header, parts))?;
                // A reader that waits already must wait for the deadline too from now on.
                reader.take().into_iter().for_each(Waker::wake);
                self.opening = Opening::Unanswered { deadline: Box::pin(sleep(*deadline)) };
                Poll::Ready(Ok(count))
            }
        }
    }

    /// What it means that the stream failed before the device answered.
    fn unanswered(&self, kind: io::ErrorKind) -> io::Error {
        // A device that drains resets what crossed its notice.
        let is_refusal = kind == io::ErrorKind::ConnectionReset && self.pipe.is_draining();
        if is_refusal { OpenError::Draining.into() } else { io::Error::new(kind, OpenError::Lost) }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Opening::Accepted = self.opening {
            return Poll::Ready(Ok(()));
        } else if let Opening::Refused(error) = self.opening {
            return Poll::Ready(Err(error.into()));
        }
        let answer = match self.pipe.poll_fill(cx).map_ok(<[u8]>::first) {
            Poll::Ready(Ok(None)) => Err(OpenError::Lost.into()),
            Poll::Ready(Ok(Some(status))) => OpenError::of_status(*status).map_err(io::Error::from),
            Poll::Ready(Err(error)) => Err(self.unanswered(error.kind())),
            Poll::Pending => {
                ready!(self.opening.poll_deadline(cx));
                Err(OpenError::TimedOut.into())
            }
        };
        self.kept = None;
        match &answer {
            Ok(()) => {
                self.pipe.consume(1);
                self.opening = Opening::Accepted;
            }
            Err(error) => {
                let error = OpenError::from_io(error).unwrap_or(OpenError::Lost);
                self.opening = Opening::Refused(error);
            }
        }
        Poll::Ready(answer)
    }
}

impl Opening {
    /// Ready when the device has had its time; before the header has left nothing runs.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Unanswered { deadline } => deadline.as_mut().poll(cx),
            Self::Unsent { reader, .. } => {
                *reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Self::Accepted | Self::Refused(_) => Poll::Pending,
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_lead(cx))?;
        ready!(this.poll_answer(cx))?;
        let before = out.filled().len();
        while out.remaining() > 0 {
            let bytes = match this.pipe.poll_fill(cx) {
                Poll::Ready(Ok([])) => break,
                Poll::Ready(Ok(bytes)) => bytes,
                // What was read before is delivered first; the same comes again.
                Poll::Pending | Poll::Ready(Err(_)) if out.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            let count = bytes.len().min(out.remaining());
            out.put_slice(&bytes[..count]);
            this.pipe.consume(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_parts(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_parts(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Written bytes are with the driver, which sends them without being asked.
        self.poll_lead(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_lead(cx))?;
        if self.half_closes {
            self.pipe.finish();
        }
        Poll::Ready(Ok(()))
    }
}
