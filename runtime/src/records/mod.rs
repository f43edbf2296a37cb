//! TLS 1.3 records of a connection whose handshake is done: sealed from where bytes lie, opened where they arrived.
//!
//! rustls makes the handshake and the keys; its provider seals and opens each record. What is ours is the order of
//! records: which sequence number, which keys, and what an alert, a key update or an end without one means. Against
//! rustls's own stream a received byte is not copied at all and a sent one once.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures_util::Stream;
use rustls::{AlertDescription, ContentType, Error};
use tcpmux_proto::buffers;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use keys::Keys;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod keys;

pub use handshake::{Peer, accept, connect};

/// An encrypted connection.
///
/// As a stream it yields what arrived, record by record; the end of the stream is the peer's `close_notify`, and an end
/// of the connection without one is [`io::ErrorKind::UnexpectedEof`]. What was written has left once a flush is ready;
/// a shutdown says `close_notify`.
#[derive(Debug)]
pub struct Records<IO> {
    io: IO,
    keys: Keys,
    /// What the peer said together with the end of its handshake.
    early: BytesMut,
    /// What arrived and is not opened yet. A quiet connection holds none.
    arrived: BytesMut,
    /// `arrived` is one of the thread's buffers for bulk.
    is_lent: bool,
    /// Sealed records on their way to the socket, and how much of the first has left.
    leaving: VecDeque<Vec<u8>>,
    left: usize,
    peer_closed: bool,
    closed: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Records<IO> {
    fn new(io: IO, keys: Keys, early: BytesMut, arrived: BytesMut) -> Self {
        Self {
            io,
            keys,
            early,
            arrived,
            is_lent: false,
            leaving: VecDeque::new(),
            left: 0,
            peer_closed: false,
            closed: false,
        }
    }

    /// Opens the next record that is there as a whole and has something for the reader.
    fn open(&mut self) -> Result<Option<BytesMut>, Error> {
        while !self.peer_closed
            && let Some(length) = whole(&self.arrived)?
        {
            let mut record = self.arrived.split_to(HEADER + length);
            let (kind, count) = self.keys.open(&mut record[HEADER..])?;
            record.advance(HEADER);
            record.truncate(count);
            match kind {
                ContentType::ApplicationData if record.is_empty() => {}
                ContentType::ApplicationData => return Ok(Some(record)),
                ContentType::Alert => self.on_alert(&record)?,
                ContentType::Handshake => self.on_handshake(&record)?,
                other => return Err(keys::unexpected(other)),
            }
        }
        Ok(None)
    }

    fn on_alert(&mut self, alert: &[u8]) -> Result<(), Error> {
        let &[_, description] = alert else { return Err(keys::malformed()) };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.peer_closed = true,
            // A close_notify follows.
            AlertDescription::UserCanceled => {}
            other => return Err(Error::AlertReceived(other)),
        }
        Ok(())
    }

    /// What a peer may say of the handshake after its end: other keys from now on, and tickets, of which we use none.
    fn on_handshake(&mut self, mut message: &[u8]) -> Result<(), Error> {
        while let [kind, a, b, c, rest @ ..] = message {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let (body, rest) = rest.split_at_checked(length).ok_or_else(keys::malformed)?;
            match (*kind, body) {
                (NEW_SESSION_TICKET, _) if self.keys.is_client() => {}
                // With other keys nothing may follow in the same record.
                (KEY_UPDATE, &[asked @ (0 | 1)]) if rest.is_empty() => {
                    self.keys.renew_opening()?;
                    // One answer counts for all requests before it. The last word keeps its place.
                    if asked == 1 && self.leaving.len() + 1 < MOST_LEAVING {
                        self.renew_sealing()?;
                    }
                }
                _ => return Err(keys::unexpected(ContentType::Handshake)),
            }
            message = rest;
        }
        if message.is_empty() { Ok(()) } else { Err(keys::malformed()) }
    }

    /// Seals what comes from now on with other keys, and says so.
    fn renew_sealing(&mut self) -> Result<(), Error> {
        self.say(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0])?;
        self.keys.renew_sealing()
    }

    fn say(&mut self, kind: ContentType, message: &[u8]) -> Result<(), Error> {
        let record = self.keys.seal(kind, &[message])?;
        self.leaving.push_back(record);
        Ok(())
    }

    /// Seals the front of `parts`, as many records as leave at once; returns how many bytes.
    fn seal(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, Error> {
        let mut total = 0;
        let mut parts = parts.iter().map(|part| &part[..]).filter(|part| !part.is_empty());
        let mut next = parts.next();
        for _ in 0..RECORDS_AT_ONCE {
            let (mut chunks, mut count, mut size) = ([&[][..]; CHUNKS], 0, 0);
            while let Some(part) = next
                && count < CHUNKS
                && size < PLAIN
                && (size == 0 || part.len() <= PLAIN - size || !(WHOLE..=PLAIN).contains(&part.len()))
            {
                let (here, later) = part.split_at(part.len().min(PLAIN - size));
                chunks[count] = here;
                (count, size) = (count + 1, size + here.len());
                next = if later.is_empty() { parts.next() } else { Some(later) };
            }
            if size == 0 {
                break;
            }
            if self.keys.are_worn() {
                self.renew_sealing()?;
            }
            let record = self.keys.seal(ContentType::ApplicationData, &chunks[..count])?;
            self.leaving.push_back(record);
            total += size;
        }
        Ok(total)
    }

    /// Writes what is sealed; ready when all of it has left.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.leaving.is_empty() {
            let mut slices = [IoSlice::new(&[]); MOST_LEAVING];
            let mut count = 0;
            for (slice, record) in slices.iter_mut().zip(&self.leaving) {
                *slice = IoSlice::new(if count == 0 { &record[self.left..] } else { record });
                count += 1;
            }
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left += written;
            while let Some(record) = self.leaving.front()
                && self.left >= record.len()
            {
                self.left -= record.len();
                self.leaving.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Goes on in another buffer, with what there is of a record.
    fn renew(&mut self) {
        let mut next = buffers::take();
        next.extend_from_slice(&self.arrived);
        self.leave(next, true);
    }

    fn leave(&mut self, next: BytesMut, is_lent: bool) {
        let spent = std::mem::replace(&mut self.arrived, next);
        if std::mem::replace(&mut self.is_lent, is_lent) {
            buffers::leave(spent);
        }
    }

    /// Says why the connection cannot go on, if the socket takes it at once.
    fn fail(&mut self, error: Error, cx: &mut Context<'_>) -> io::Error {
        self.peer_closed = true;
        if !self.closed
            && let Some(alert) = keys::alert_for(&error)
        {
            self.closed = true;
            // The first fault is the one to tell.
            if self.say(ContentType::Alert, &[FATAL, alert.into()]).is_ok() {
                let _ = self.poll_leave(cx);
            }
        }
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Stream for Records<IO> {
    type Item = io::Result<BytesMut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.early.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.early))));
        }
        loop {
            match this.open() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if this.peer_closed => {
                    this.arrived = BytesMut::new();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(this.fail(error, cx)))),
            }
            if this.arrived.capacity() - this.arrived.len() < buffers::LEAST {
                this.renew();
            }
            match poll_read_buf(Pin::new(&mut this.io), cx, &mut this.arrived) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    this.peer_closed = true;
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, CUT);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    if this.arrived.is_empty() {
                        this.leave(BytesMut::new(), false);
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Records<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_leave(cx))?;
        let count = self.seal(parts).map_err(io::Error::other)?;
        match self.poll_leave(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            let close = [WARNING, AlertDescription::CloseNotify.into()];
            self.say(ContentType::Alert, &close).map_err(io::Error::other)?;
        }
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// How long the body of the first record is, once all of it is there.
fn whole(arrived: &[u8]) -> Result<Option<usize>, Error> {
    let Some(&[kind, _, _, a, b]) = arrived.first_chunk::<HEADER>() else { return Ok(None) };
    let kind = ContentType::from(kind);
    if kind != ContentType::ApplicationData {
        return Err(keys::unexpected(kind));
    }
    let length = usize::from(u16::from_be_bytes([a, b]));
    if length > SEALED {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok((arrived.len() >= HEADER + length).then_some(length))
}

/// RFC 8446 §5.1, §5.2.
const HEADER: usize = 5;
const PLAIN: usize = 1 << 14;
const SEALED: usize = PLAIN + 256;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const RECORDS_AT_ONCE: usize = 4;
/// A piece from this size on begins another record where it would lie across two: so the peer need not put it together.
const WHOLE: usize = PLAIN / 2;
/// Pieces of one record.
const CHUNKS: usize = 32;
/// Records that wait for the socket: those of one write, each perhaps behind a change of keys, and the last word.
const MOST_LEAVING: usize = 2 * RECORDS_AT_ONCE + 2;
const CUT: &str = "the peer closed the connection without a close_notify";

#[cfg(test)]
mod tests;
