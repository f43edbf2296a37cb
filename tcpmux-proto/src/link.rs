//! What a tunnel runs over.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::BytesMut;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A connection that hands out what arrived in buffers of its own, so that bytes need not be copied out of them.
///
/// Its end as a stream is the peer's orderly end. What a write took leaves with a flush that is ready.
pub trait Link: Stream<Item = io::Result<BytesMut>> + AsyncWrite + Unpin + Send {}

impl<T: Stream<Item = io::Result<BytesMut>> + AsyncWrite + Unpin + Send> Link for T {}

/// A link over any connection that reads into what it is given.
#[derive(Debug)]
pub struct Buffered<IO> {
    io: IO,
    buffer: BytesMut,
}

thread_local! {
    /// What the links of this thread read into, one after the other. A link that waits holds nothing: with thousands of
    /// them it would be freed memory between live one, which no allocator gives back.
    static SPARE: Cell<BytesMut> = Cell::default();
}

impl<IO> Buffered<IO> {
    /// Nothing is read before it is asked for.
    pub fn new(io: IO) -> Self {
        Self { io, buffer: BytesMut::new() }
    }
}

impl<IO: AsyncRead + Unpin> Stream for Buffered<IO> {
    type Item = io::Result<BytesMut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.buffer.capacity() == 0 {
            this.buffer = SPARE.take();
        }
        if this.buffer.capacity() < ROOM_AT_LEAST {
            this.buffer.reserve(ROOM);
        }
        let read = pin!(this.io.read_buf(&mut this.buffer)).poll(cx);
        match read {
            Poll::Ready(Ok(0)) => Poll::Ready(None),
            Poll::Ready(Ok(_)) => Poll::Ready(Some(Ok(this.buffer.split()))),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Pending => {
                SPARE.set(std::mem::take(&mut this.buffer));
                Poll::Pending
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Buffered<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Room of a fresh buffer, and the least room a read is worth.
const ROOM: usize = 64 * 1024;
const ROOM_AT_LEAST: usize = 16 * 1024;
