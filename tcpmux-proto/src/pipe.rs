//! One stream of a session as bytes: what tunnel streams and the control stream are made of.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    OpenError, Pieces, buffers,
    driver::Shared,
    mux::{FRAME_PAYLOAD, Read, Room},
    pieces::BULK,
};

/// A held stream. Dropped before both sides finished, it is reset.
#[derive(Debug)]
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    id: u32,
    /// What was taken from the session and not yet read.
    unread: Bytes,
}

impl Pipe {
    pub(crate) fn new(shared: Arc<Shared>, id: u32, unread: Bytes) -> Self {
        Self { shared, id, unread }
    }

    /// Bytes that are there, at least one; an empty slice once the peer finished.
    pub(crate) fn poll_fill(&mut self, cx: &Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.unread.is_empty() {
            let read = self.shared.act(|state, now| {
                let read = state.session.read(self.id, now);
                if read == Read::Wait {
                    state.wait_to_read(self.id, cx);
                }
                read
            });
            match read {
                Read::Data(bytes) => self.unread = bytes,
                Read::Wait => return Poll::Pending,
                Read::Finished => {}
                Read::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Read::Ended => return Poll::Ready(Err(OpenError::Lost.into())),
            }
        }
        Poll::Ready(Ok(&self.unread))
    }

    /// Drops bytes that [`Self::poll_fill`] showed.
    pub(crate) fn consume(&mut self, count: usize) {
        self.unread.advance(count);
    }

    /// Takes bytes that are there, at least one and about `most`; 0 once the peer finished.
    pub(crate) fn poll_take(
        &mut self,
        cx: &Context<'_>,
        most: usize,
        pieces: &mut Pieces,
    ) -> Poll<io::Result<usize>> {
        let mut count = self.unread.len();
        pieces.push(std::mem::take(&mut self.unread));
        let last = self.shared.act(|state, now| {
            while count < most {
                match state.session.read(self.id, now) {
                    Read::Data(bytes) => {
                        count += bytes.len();
                        pieces.push(bytes);
                    }
                    Read::Wait if count == 0 => {
                        state.wait_to_read(self.id, cx);
                        return Read::Wait;
                    }
                    other => return other,
                }
            }
            Read::Wait
        });
        match last {
            // What else there is to say comes again.
            _ if count > 0 => Poll::Ready(Ok(count)),
            Read::Wait | Read::Data(_) => Poll::Pending,
            Read::Finished => Poll::Ready(Ok(0)),
            Read::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Ended => Poll::Ready(Err(OpenError::Lost.into())),
        }
    }

    /// Queues bytes as they find room, without copying large ones; ready when all are queued.
    pub(crate) fn poll_give(&mut self, cx: &Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.shared.act(|state, now| {
            while !bytes.is_empty() {
                let room = ready!(state.poll_room(self.id, cx))?;
                let piece = bytes.split_to(in_frames(bytes.len(), room));
                state.session.write(self.id, piece, now);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Queues `prefix` (at most a stream header, on a fresh stream) and as much of `parts` as there is room for;
    /// returns how much of the parts that is.
    pub(crate) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        prefix: &mut Bytes,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if prefix.len() + total <= COPY_UNDER_LOCK {
            return self.shared.act(|state, now| {
                let room = ready!(state.poll_room(self.id, cx))?;
                let count = total.min(room.saturating_sub(prefix.len()));
                state.session.write_copy(self.id, &std::mem::take(prefix), now);
                for_each_part(parts, count, |part| state.session.write_copy(self.id, part, now));
                Poll::Ready(Ok(count))
            });
        }
        // Much to copy: not under the lock. Nobody else writes to this stream, so the room can only grow.
        let room = ready!(self.shared.act(|state, _| state.poll_room(self.id, cx)))?;
        let wanted = in_frames(prefix.len() + total, room.min(BULK));
        let is_bulk = wanted >= buffers::LEAST;
        let mut copy = if is_bulk { buffers::take() } else { BytesMut::with_capacity(wanted) };
        let count = wanted.min(copy.capacity()).saturating_sub(prefix.len());
        copy.extend_from_slice(&std::mem::take(prefix));
        for_each_part(parts, count, |part| copy.extend_from_slice(part));
        let bytes = copy.split().freeze();
        if is_bulk {
            buffers::leave(copy);
        }
        self.shared.act(|state, now| state.session.write(self.id, bytes, now));
        Poll::Ready(Ok(count))
    }

    /// Waits until everything written is on its way to the socket.
    pub(crate) fn poll_drained(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.shared.act(|state, _| {
            if !state.session.is_drained(self.id) {
                state.wait_to_write(self.id, cx);
                return Poll::Pending;
            }
            match state.session.room(self.id) {
                Room::Ended => Poll::Ready(Err(OpenError::Lost.into())),
                Room::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Room::Bytes(_) | Room::Wait | Room::Finished => Poll::Ready(Ok(())),
            }
        })
    }

    /// Waits for a reset or the end of the session; needs nothing of the pipe itself.
    pub(crate) fn cut(&self) -> impl Future<Output = io::Error> + Send + use<> {
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        poll_fn(move |cx| {
            shared.act(|state, _| {
                if !state.session.is_cut(id) {
                    state.wait_to_write(id, cx);
                    return Poll::Pending;
                }
                Poll::Ready(match state.session.room(id) {
                    Room::Reset => io::ErrorKind::ConnectionReset.into(),
                    _ => OpenError::Lost.into(),
                })
            })
        })
    }

    /// Whether the session takes no new streams.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.look().session.is_draining()
    }

    /// Sends FIN behind what was written.
    pub(crate) fn finish(&self) {
        self.shared.act(|state, now| state.session.finish(self.id, now));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shared.act(|state, now| state.release(self.id, now));
    }
}

/// How many of these bytes to queue: all, or the whole frames that there is room for. The rest of one would leave as a small
/// frame, and what follows would lie across TLS records.
fn in_frames(bytes: usize, room: usize) -> usize {
    if bytes <= room { bytes } else { room - room % FRAME_PAYLOAD }
}

fn for_each_part(parts: &[IoSlice<'_>], mut count: usize, mut each: impl FnMut(&[u8])) {
    for part in parts {
        let here = count.min(part.len());
        each(&part[..here]);
        count -= here;
    }
}

/// Larger writes are copied before the lock is taken.
const COPY_UNDER_LOCK: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        frame::HEADER_LEN,
        mux::{Limits, Outbox, Role, Session},
        settings::Settings,
    };

    fn pipe() -> Pipe {
        let Settings { open_streams, inbound_streams, max_window, window_budget, heartbeat, silence, .. } =
            Settings::default();
        let limits = Limits { open_streams, inbound_streams, max_window, window_budget, heartbeat, silence };
        let mut session = Session::new(Role::Server, limits, Duration::ZERO);
        let id = session.open().unwrap();
        Pipe::new(Arc::new(Shared::new(session, None, tokio::time::Instant::now())), id, Bytes::new())
    }

    /// Writes in these pieces until no more is taken; returns the payloads that leave.
    fn payloads(write: impl Fn(&mut Pipe, &Context<'_>) -> bool) -> Vec<usize> {
        let (mut pipe, cx) = (pipe(), Context::from_waker(std::task::Waker::noop()));
        let mut sizes = Vec::new();
        for _ in 0..3 {
            while write(&mut pipe, &cx) {}
            let mut outbox = Outbox::default();
            pipe.shared.act(|state, now| state.session.transmit(&mut outbox, BULK, now));
            let mut slices = [IoSlice::new(&[]); 32];
            let count = outbox.slices(&mut slices);
            sizes.extend(slices[..count].iter().map(|slice| slice.len()).filter(|size| *size != HEADER_LEN));
        }
        sizes
    }

    #[test]
    fn bulk_leaves_in_whole_frames_whatever_the_size_of_its_writes() {
        let piece = vec![7; 64 * 1024];
        let written =
            payloads(|pipe, cx| pipe.poll_write(cx, &mut Bytes::new(), &[IoSlice::new(&piece)]).is_ready());
        assert_eq!(written, [FRAME_PAYLOAD; 12]);
        // A byte before all others: the status of a stream, say.
        let given = payloads(|pipe, cx| {
            let queued = pipe.shared.look().session.held_bytes();
            let size = if queued == 0 { FRAME_PAYLOAD + 1 } else { BULK };
            let mut bytes = Bytes::from(vec![7; size]);
            pipe.poll_give(cx, &mut bytes).is_ready()
        });
        let odd: Vec<_> = given.iter().filter(|size| **size != FRAME_PAYLOAD).collect();
        assert_eq!(odd, [&1], "of {given:?}");
    }
}
