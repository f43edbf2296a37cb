//! Bytes that pass through without being copied on the way.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{TunnelStream, buffers, mux::FRAME_PAYLOAD};

/// Bytes that came through a stream, as they lie in memory, on their way to a writer.
#[derive(Debug, Default)]
pub struct Pieces {
    queue: VecDeque<Bytes>,
}

impl Pieces {
    /// Writes all, as many pieces at once as the writer takes, and flushes. Cancelled, it goes on where it was.
    ///
    /// # Errors
    /// What the writer says; `WriteZero` when it takes nothing.
    pub async fn write_to(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.queue.is_empty() {
            let count = poll_fn(|cx| self.poll_write(cx, Pin::new(&mut *writer))).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(count);
        }
        writer.flush().await
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.queue.push_back(piece);
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, writer: Pin<&mut impl AsyncWrite>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.queue.len().min(SLICES);
        for (slice, piece) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(piece);
        }
        if writer.is_write_vectored() {
            writer.poll_write_vectored(cx, &slices[..count])
        } else {
            writer.poll_write(cx, &slices[0])
        }
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.queue.front_mut()
            && count > 0
        {
            let here = count.min(front.len());
            front.advance(here);
            count -= here;
            if front.is_empty() {
                self.queue.pop_front();
            }
        }
    }
}

/// A buffer between a reader and a stream: small while little is said, large for bulk, none while it waits.
#[derive(Debug, Default)]
pub struct Gather {
    buffer: BytesMut,
    /// The buffer is one of the thread's for bulk.
    is_bulk: bool,
    full_reads: u32,
}

impl Gather {
    /// Reads once; 0 when the reader came to its end. What it holds from before has to be passed on first.
    ///
    /// # Errors
    /// What the reader says.
    pub async fn fill(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, reader)).await
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        let least = if self.is_bulk { buffers::LEAST } else { LEAST };
        if self.buffer.capacity() < least || (self.full_reads == 0 && self.is_bulk) {
            self.renew();
        }
        let room = self.buffer.capacity().min(if self.is_bulk { BULK } else { INTERACTIVE });
        let polled = pin!(reader.read_buf(&mut (&mut self.buffer).limit(room))).poll(cx);
        match polled {
            // A thousand conversations that wait hold nothing.
            Poll::Pending => self.rest(),
            Poll::Ready(Ok(count)) if count == room => {
                self.full_reads = (self.full_reads + 1).min(BULK_AFTER);
            }
            Poll::Ready(Ok(count)) if count <= LEAST => self.full_reads = 0,
            Poll::Ready(_) => {}
        }
        polled
    }

    /// Another buffer. What was passed on of the one before goes with its last piece.
    fn renew(&mut self) {
        let is_bulk = self.full_reads >= BULK_AFTER;
        let next = if is_bulk { buffers::take() } else { buffers::take_small() };
        let spent = std::mem::replace(&mut self.buffer, next);
        if std::mem::replace(&mut self.is_bulk, is_bulk) {
            buffers::leave(spent);
        }
    }

    /// Leaves the buffer to others until the reader has something.
    fn rest(&mut self) {
        let free = std::mem::take(&mut self.buffer);
        if std::mem::take(&mut self.is_bulk) {
            buffers::leave(free);
        } else {
            buffers::leave_small(free);
        }
    }

    /// Passes on what was read: a little as a copy, so that it does not pin the buffer, more as it lies there.
    ///
    /// # Errors
    /// As in writing to the stream.
    pub async fn pass_to(&mut self, stream: &Duplex) -> io::Result<()> {
        if self.buffer.len() <= LEAST {
            stream.write_all(&self.buffer).await?;
            self.buffer.clear();
            return Ok(());
        }
        stream.give(self.buffer.split().freeze()).await
    }
}

/// A stream that one task reads and writes at once, its bytes passed on as they lie in memory.
#[derive(Debug)]
pub struct Duplex(Mutex<TunnelStream>);

impl Duplex {
    /// For a stream whose opening is over: both directions are used from now on.
    pub fn new(stream: TunnelStream) -> Self {
        Self(Mutex::new(stream))
    }

    /// Waits for bytes and takes what is there, about `most` at a time; 0 once the peer finished.
    ///
    /// # Errors
    /// As in reading a [`TunnelStream`].
    pub async fn take(&self, most: usize, pieces: &mut Pieces) -> io::Result<usize> {
        poll_fn(|cx| self.stream().poll_take(cx, most, pieces)).await
    }

    /// Queues bytes without copying them, as they find room.
    ///
    /// # Errors
    /// As in writing to a [`TunnelStream`].
    pub async fn give(&self, mut bytes: Bytes) -> io::Result<()> {
        poll_fn(|cx| self.stream().poll_give(cx, &mut bytes)).await
    }

    /// Queues a copy.
    ///
    /// # Errors
    /// As in writing to a [`TunnelStream`].
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|cx| Pin::new(&mut *self.stream()).poll_write(cx, bytes)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// FIN behind what was written.
    ///
    /// # Errors
    /// As in shutting a [`TunnelStream`] down.
    pub async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.stream()).poll_shutdown(cx)).await
    }

    /// Never held across an await, and by one task alone: it is always free.
    fn stream(&self) -> MutexGuard<'_, TunnelStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const INTERACTIVE: usize = buffers::SMALL_SIZE;
/// Four whole frames of data; a buffer for bulk holds them.
pub(crate) const BULK: usize = 4 * FRAME_PAYLOAD;
/// The least room that a read is worth, and the most bytes that are copied instead of kept as they lie.
const LEAST: usize = buffers::SMALL_LEAST;
/// Full reads in a row that make it bulk.
const BULK_AFTER: u32 = 4;
/// Pieces written at once.
const SLICES: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::{
        StreamKind,
        testing::{self, Pair},
    };

    fn bytes(count: u32) -> Vec<u8> {
        (0..count).map(|at| (at * 31 + at / 253) as u8).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no shutdown to wait for")]
    async fn ends() -> (Pair, Duplex, Duplex) {
        let mut pair = Pair::new(|driver| drop(tokio::spawn(driver))).await;
        let mut cloud = pair.cloud.open(testing::header("web", StreamKind::Tcp)).unwrap();
        let (accepted, device) = tokio::join!(cloud.accepted(), async {
            pair.device.incoming.next().await.unwrap().accept().await
        });
        accepted.unwrap();
        (pair, Duplex::new(cloud), Duplex::new(device))
    }

    #[tokio::test]
    async fn bytes_pass_in_order_whatever_their_pieces_and_the_end_comes_behind_them() {
        let (_pair, cloud, device) = ends().await;
        let data = bytes(3_000_000);
        let sends = async {
            let (mut source, mut gather) = (&data[..], Gather::default());
            // Short first reads, then full ones.
            for few in [1, 100, LEAST, LEAST + 1] {
                let (mut some, rest) = source.split_at(few);
                source = rest;
                assert_eq!(gather.fill(&mut some).await.unwrap(), few);
                gather.pass_to(&cloud).await.unwrap();
            }
            while gather.fill(&mut source).await.unwrap() > 0 {
                gather.pass_to(&cloud).await.unwrap();
            }
            cloud.shutdown().await.unwrap();
        };
        let (mut writer, mut reader) = duplex(10_000);
        let passes = async {
            let mut pieces = Pieces::default();
            while device.take(BULK, &mut pieces).await.unwrap() > 0 {
                pieces.write_to(&mut writer).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let mut all = Vec::new();
        let (.., read) = tokio::join!(sends, passes, reader.read_to_end(&mut all));
        read.unwrap();
        assert!(all == data);
    }

    #[tokio::test]
    async fn what_came_before_a_reset_is_taken_and_then_the_reset_is_told() {
        let (_pair, cloud, device) = ends().await;
        device.write_all(b"last words").await.unwrap();
        let mut pieces = Pieces::default();
        assert_eq!(cloud.take(BULK, &mut pieces).await.unwrap(), 10);
        drop(device);
        let error = cloud.take(BULK, &mut pieces).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(
            cloud.give(Bytes::from_static(b"x")).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        let mut out = Vec::new();
        pieces.write_to(&mut out).await.unwrap();
        assert_eq!(out, b"last words");
    }

    #[tokio::test]
    async fn a_buffer_grows_for_bulk_and_shrinks_when_it_is_over() {
        let (_pair, cloud, device) = ends().await;
        let data = bytes(1_000_000);
        let (mut source, mut gather, mut pieces) = (&data[..], Gather::default(), Pieces::default());
        let mut largest = 0;
        for _ in 0..8 {
            let count = gather.fill(&mut source).await.unwrap();
            largest = largest.max(count);
            gather.pass_to(&cloud).await.unwrap();
            let mut taken = 0;
            while taken < count {
                taken += device.take(BULK, &mut pieces).await.unwrap();
            }
        }
        assert_eq!(largest, BULK);
        for _ in 0..2 {
            assert_eq!(gather.fill(&mut &b"a little"[..]).await.unwrap(), 8);
            gather.pass_to(&cloud).await.unwrap();
        }
        assert!(gather.buffer.capacity() <= INTERACTIVE, "{}", gather.buffer.capacity());
    }

    #[tokio::test]
    async fn conversations_that_wait_hold_nothing_and_one_buffer_serves_them_all() {
        let (_pair, cloud, _device) = ends().await;
        let mut conversations: Vec<_> = (0..3).map(|_| (duplex(1 << 20), Gather::default())).collect();
        let mut addresses = vec![];
        for _ in 0..20 {
            for ((near, far), gather) in &mut conversations {
                far.write_all(b"a word").await.unwrap();
                assert_eq!(gather.fill(near).await.unwrap(), 6);
                addresses.push(gather.buffer.as_ptr());
                gather.pass_to(&cloud).await.unwrap();
                assert!(futures_util::poll!(pin!(gather.fill(near))).is_pending());
                assert_eq!(gather.buffer.capacity(), 0);
            }
        }
        addresses.dedup();
        assert_eq!(addresses.len(), 1, "{addresses:?}");
        // Bulk that stops for a moment leaves its buffer, too.
        let ((near, far), gather) = &mut conversations[0];
        far.write_all(&bytes(400_000)).await.unwrap();
        let mut largest = 0;
        loop {
            let polled = futures_util::poll!(pin!(gather.fill(near)));
            let Poll::Ready(count) = polled else { break };
            largest = largest.max(count.unwrap());
            drop(gather.buffer.split());
        }
        assert_eq!((largest, gather.buffer.capacity()), (BULK, 0));
    }
}
