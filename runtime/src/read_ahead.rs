//! Reads a busy connection in large pieces, without a buffer while it is quiet.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// A connection that is read ahead of its reader.
///
/// rustls asks for 4 KiB at a time and takes about five reads for one full record. A read that fills what it was
/// offered says that more is there: from then on up to 64 KiB are taken from the socket at once, until it has
/// nothing more. Then the buffer goes: a quiet connection holds none. Writes pass as they are.
#[derive(Debug)]
pub struct ReadAhead<IO> {
    io: IO,
    ahead: BytesMut,
    /// The last read of the socket left something behind.
    more: bool,
    /// What was given out, while that is kept.
    kept: Option<BytesMut>,
}

impl<IO> ReadAhead<IO> {
    /// Nothing is read before it is asked for.
    pub fn new(io: IO) -> Self {
        Self { io, ahead: BytesMut::new(), more: false, kept: None }
    }

    /// The same, and what is given out is kept until [`Self::forget`]: another reader may begin anew.
    pub fn keeping(io: IO) -> Self {
        Self { kept: Some(BytesMut::new()), ..Self::new(io) }
    }

    /// Keeps nothing from now on.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    /// The connection, and what was read of it: all that was kept, and what nobody has seen yet.
    pub fn into_parts(self) -> (IO, BytesMut) {
        let mut read = self.kept.unwrap_or_default();
        read.unsplit(self.ahead);
        (self.io, read)
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.ahead.len().min(out.remaining());
        self.kept.iter_mut().for_each(|kept| kept.extend_from_slice(&self.ahead[..count]));
        out.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ReadAhead<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() && !this.more {
            let (before, room) = (out.filled().len(), out.remaining());
            ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
            this.kept.iter_mut().for_each(|kept| kept.extend_from_slice(&out.filled()[before..]));
            this.more = room > 0 && out.filled().len() - before == room;
            return Poll::Ready(Ok(()));
        }
        if this.ahead.is_empty() {
            // All of it was given out: the same memory is used again.
            this.ahead.reserve(ROOM);
            let read = poll_read_buf(Pin::new(&mut this.io), cx, &mut this.ahead);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                (this.ahead, this.more) = (BytesMut::new(), false);
            }
            ready!(read)?;
        }
        this.give(out);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ReadAhead<IO> {
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

/// The most that is taken from the socket at once.
const ROOM: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A reader that counts how often it is asked.
    struct Counted<IO>(IO, usize);

    impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_read(cx, out)
        }
    }

    #[tokio::test]
    async fn bytes_come_in_order_whatever_the_sizes_and_the_end_comes_after_them() {
        for piece in [1, 5, 1000, 4096, 16_401, 70_000] {
            let (mut writer, reader) = duplex(100_000);
            let expected: Vec<u8> = (0..300_000_u32).map(|at| (at * 7 + at / 251) as u8).collect();
            let (mut reader, mut all) = (ReadAhead::new(reader), Vec::new());
            let mut buffer = vec![0; piece];
            let writing = async {
                writer.write_all(&expected).await.unwrap();
                drop(writer);
            };
            let reading = async {
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    all.extend_from_slice(&buffer[..count]);
                }
            };
            tokio::join!(writing, reading);
            assert!(all == expected, "pieces of {piece}");
            assert_eq!(reader.ahead.capacity(), 0, "nothing is held once all is read");
        }
    }

    #[tokio::test]
    async fn a_backlog_costs_few_reads_and_a_quiet_connection_holds_no_buffer() {
        let (mut writer, reader) = duplex(ROOM);
        let mut reader = ReadAhead::new(Counted(reader, 0));
        let mut buffer = [0; 4096];
        writer.write_all(&[1; 100]).await.unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 100);
        assert_eq!((reader.io.1, reader.ahead.capacity()), (1, 0), "small: straight into the reader's");
        writer.write_all(&vec![2; ROOM]).await.unwrap();
        let before = reader.io.1;
        let mut left = ROOM;
        while left > 0 {
            left -= reader.read(&mut buffer).await.unwrap();
        }
        assert_eq!(reader.io.1 - before, 2, "one of 4 KiB and one of the rest");
        let pending = waits(&mut reader).await;
        assert!(pending && reader.ahead.capacity() == 0, "with nothing there the buffer goes");
    }

    #[tokio::test]
    async fn another_reader_begins_anew_with_what_was_kept() {
        let (mut writer, reader) = duplex(2 * ROOM);
        let mut reader = ReadAhead::keeping(reader);
        let all: Vec<u8> = (0..ROOM as u32).map(|at| (at * 7 + at / 251) as u8).collect();
        writer.write_all(&all).await.unwrap();
        reader.read_exact(&mut vec![0; 9000]).await.unwrap();
        let (mut rest, mut read) = reader.into_parts();
        drop(writer);
        rest.read_buf(&mut read).await.unwrap();
        assert!(read.len() >= 9000 && all.starts_with(&read), "{} bytes", read.len());
        let (mut writer, reader) = duplex(100);
        let mut reader = ReadAhead::keeping(reader);
        reader.forget();
        writer.write_all(b"hello").await.unwrap();
        reader.read_exact(&mut [0; 3]).await.unwrap();
        assert!(reader.into_parts().1.is_empty());
    }

    async fn waits(reader: &mut (impl AsyncRead + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            let mut one = [0];
            let mut out = ReadBuf::new(&mut one);
            Poll::Ready(Pin::new(&mut *reader).poll_read(cx, &mut out).is_pending())
        })
        .await
    }
}
