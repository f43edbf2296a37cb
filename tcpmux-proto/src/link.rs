//! What a tunnel runs over.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::buffers;

/// A connection that hands out what arrived in buffers of its own, so that bytes need not be copied out of them.
///
/// Its end as a stream is the peer's orderly end. What a write took leaves with a flush that is ready.
pub trait Link: Stream<Item = io::Result<BytesMut>> + AsyncWrite + Unpin + Send {}

impl<T: Stream<Item = io::Result<BytesMut>> + AsyncWrite + Unpin + Send> Link for T {}

/// A link over any connection that reads into what it is given.
#[derive(Debug)]
pub struct Buffered<IO> {
    io: IO,
}

impl<IO> Buffered<IO> {
    /// Nothing is read before it is asked for.
    pub fn new(io: IO) -> Self {
        Self { io }
    }
}

impl<IO: AsyncRead + Unpin> Stream for Buffered<IO> {
    type Item = io::Result<BytesMut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut buffer = buffers::take();
        let read = pin!(self.io.read_buf(&mut buffer)).poll(cx);
        let piece = buffer.split();
        buffers::leave(buffer);
        match ready!(read) {
            Ok(0) => Poll::Ready(None),
            Ok(_) => Poll::Ready(Some(Ok(piece))),
            Err(error) => Poll::Ready(Some(Err(error))),
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
