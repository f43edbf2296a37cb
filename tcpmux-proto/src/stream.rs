//! One byte pipe in a session.

use std::{
    future::ready,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::OpenError;

/// A byte pipe between the cloud and a service of a device.
///
/// - The opener's header leaves together with the first bytes written, or on flush, or on [`Self::accepted`].
/// - The opener's first read waits for the device's status byte; a refusal is an [`io::Error`] that carries an
///   [`OpenError`] (see [`OpenError::from_io`]).
/// - A read of zero bytes means that the peer finished, and nothing else. A reset is
///   [`io::ErrorKind::ConnectionReset`] (after the bytes that arrived before it), the end of the tunnel is
///   [`io::ErrorKind::ConnectionAborted`] at once.
/// - `poll_shutdown` sends FIN, except on the opener's side of [`StreamKind::Http`](crate::StreamKind::Http), where
///   it only flushes: HTTP ends by its own framing and hyper shuts down when it cancels, which must reset.
/// - Dropped before both sides finished, the stream is reset. Bytes written before a shutdown still leave first.
#[derive(Debug)]
pub struct TunnelStream {
    _private: (),
}

impl TunnelStream {
    /// Sends the header if that has not happened yet and waits for the device's answer, at most the deadline of
    /// the header. Answered once, it returns the same at once again.
    pub async fn accepted(&mut self) -> Result<(), OpenError> {
        ready(Err(OpenError::Lost)).await
    }

    /// Resets the stream: the peer's reads and writes fail. The same as dropping it early, said aloud.
    pub fn reset(self) {
        drop(self);
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(OpenError::Lost.into()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(OpenError::Lost.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
