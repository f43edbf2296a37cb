//! What the holders of streams do: read, write, finish, let go.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    Session,
    stream::{Receiving, Sending, Stream},
    transmit::FRAME_PAYLOAD,
    window::Tuning,
};
use crate::frame::{FrameHeader, SYN};

/// News for whoever holds a stream. A stream has news only where an earlier call answered that it must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The peer opened this stream. It is held from now on: [`Session::release`] it when done.
    Opened(u32),
    /// [`Session::read`] has something to say.
    Readable(u32),
    /// [`Session::room`] has something to say.
    Writable(u32),
    /// [`Session::is_drained`] has something to say.
    Drained(u32),
    /// No stream is left but the first.
    Idle,
    /// The peer takes no new streams.
    PeerDraining,
}

/// What a read finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The next bytes, never empty.
    Data(Bytes),
    /// Nothing yet: an [`Event::Readable`] will follow.
    Wait,
    /// The peer finished.
    Finished,
    /// The peer reset the stream.
    Reset,
    /// The session has ended.
    Ended,
}

/// What a writer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many bytes may be queued: a full frame at least.
    Bytes(usize),
    /// Too few now: an [`Event::Writable`] will follow.
    Wait,
    /// We finished already.
    Finished,
    /// The peer reset the stream.
    Reset,
    /// The session has ended.
    Ended,
}

impl Session {
    /// Takes the next received bytes of a stream, whole as they came.
    pub fn read(&mut self, id: u32, now: Duration) -> Read {
        let Some(stream) = self.streams.get_mut(&id) else { return Read::Ended };
        if let Some(piece) = stream.incoming.pop(usize::MAX) {
            self.delivered(id, piece.len(), now);
            return Read::Data(piece);
        }
        if stream.receiving == Receiving::Finished {
            return Read::Finished;
        }
        if stream.reset {
            return Read::Reset;
        }
        if self.end.is_some() {
            return Read::Ended;
        }
        stream.reader_waits = true;
        Read::Wait
    }

    /// How much may be written to a stream now.
    pub fn room(&mut self, id: u32) -> Room {
        let most = self.most_queued();
        let Some(stream) = self.streams.get_mut(&id) else { return Room::Ended };
        if self.end.is_some() {
            return Room::Ended;
        }
        if stream.reset {
            return Room::Reset;
        }
        if stream.sending != Sending::Open {
            return Room::Finished;
        }
        let room = most.saturating_sub(stream.outgoing.len());
        if room >= FRAME_PAYLOAD {
            return Room::Bytes(room);
        }
        stream.writer_waits = true;
        Room::Wait
    }

    /// Queues bytes, at most what [`Self::room`] said; large ones are not copied.
    pub fn write(&mut self, id: u32, bytes: Bytes, now: Duration) {
        self.enqueue(id, bytes.len(), now, |stream| stream.outgoing.push(bytes));
    }

    /// Queues a copy of few bytes, at most what [`Self::room`] said.
    pub fn write_copy(&mut self, id: u32, bytes: &[u8], now: Duration) {
        self.enqueue(id, bytes.len(), now, |stream| stream.outgoing.extend(bytes));
    }

    /// Sends FIN after what is queued.
    pub fn finish(&mut self, id: u32, now: Duration) {
        if self.end.is_some() {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.sending == Sending::Open && !stream.reset {
            stream.sending = Sending::Finishing;
            self.schedule(id, now);
        }
    }

    /// Whether everything written to a stream is on its way to the socket; if not, an [`Event::Drained`] follows.
    pub fn is_drained(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return true };
        stream.drain_waits = !stream.outgoing.is_empty() && !stream.reset && self.end.is_none();
        !stream.drain_waits
    }

    /// Whether the peer has reset a stream or the session has ended; if not, the writer is told when that happens.
    pub fn is_cut(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return true };
        let is_cut = stream.reset || self.end.is_some();
        stream.writer_waits |= !is_cut;
        is_cut
    }

    /// Nobody holds this stream any more. Unless both sides finished, the peer is told with RST: at once, or after the
    /// queued bytes if FIN follows them.
    pub fn release(&mut self, id: u32, now: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.held = false;
        stream.incoming.clear();
        let over = self.end.is_some() || stream.reset || stream.is_finished() || stream.is_unannounced();
        if stream.sending == Sending::Finishing && !stream.reset && self.end.is_none() {
            self.bound_lingering();
            self.lingering.push_back((now + LINGER, id));
        } else if over {
            self.remove(id);
        } else {
            self.cut(id);
        }
    }

    pub(super) fn most_queued(&self) -> usize {
        if self.queued < QUEUED_TOTAL { QUEUED_PER_STREAM } else { QUEUED_FLOOR }
    }

    pub(super) fn schedule(&mut self, id: u32, now: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.scheduled && stream.can_send() {
            stream.scheduled = true;
            let class = stream.burst.class(now);
            if self.scheduler.len() > 2 * self.streams.len() + SLACK {
                let streams = &self.streams;
                self.scheduler.retain(|id| streams.contains_key(&id));
            }
            self.scheduler.push(id, class);
        }
    }

    /// Resets a stream that we do not want any more and forgets it.
    pub(super) fn cut(&mut self, id: u32) {
        self.urgent.push_back(FrameHeader::reset(id));
        self.remove(id);
    }

    pub(super) fn remove(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else { return };
        *(if stream.ours { &mut self.ours } else { &mut self.theirs }) -= 1;
        self.queued -= stream.outgoing.len();
        self.charged -= stream.charged;
        let may_come = stream.receiving == Receiving::Open && !stream.reset && !stream.is_unannounced();
        self.flood.closed(if may_come { stream.window.open() } else { 0 });
        if self.stream_count() == 0 && self.events.back() != Some(&Event::Idle) {
            self.events.push_back(Event::Idle);
        }
    }

    fn enqueue(&mut self, id: u32, count: usize, now: Duration, add: impl FnOnce(&mut Stream)) {
        if self.end.is_some() || count == 0 {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.sending == Sending::Open && !stream.reset {
            add(stream);
            self.queued += count;
            self.schedule(id, now);
        }
    }

    fn delivered(&mut self, id: u32, count: usize, now: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if self.end.is_some() || stream.reset || stream.receiving == Receiving::Finished {
            return;
        }
        let tuning = Tuning {
            now,
            round_trip: self.pulse.round_trip(),
            max: self.limits.max_window,
            spare: self.limits.window_budget.saturating_sub(self.charged),
        };
        let unread = stream.incoming.len();
        let owes = stream.window.deliver(count, unread, tuning);
        if owes && !stream.update_waits {
            stream.update_waits = true;
            self.updates.push_back(id);
            if let Some(opaque) = self.pulse.probe(now) {
                self.urgent.push_back(FrameHeader::ping(SYN, opaque));
            }
        }
        stream.recharge(&mut self.charged);
    }

    /// Entries of streams that are gone already are dropped before there are too many.
    fn bound_lingering(&mut self) {
        if self.lingering.len() > 2 * self.streams.len() + SLACK {
            self.forget_gone();
        }
    }

    /// Nobody waits any more for the last bytes of a stream that is gone.
    pub(super) fn forget_gone(&mut self) {
        let streams = &self.streams;
        self.lingering.retain(|(_, id)| streams.contains_key(id));
    }
}

impl Stream {
    /// Brings what this stream holds of the session's window budget up to date.
    pub(super) fn recharge(&mut self, total: &mut usize) {
        let now = self.window.charge(self.incoming.len());
        *total = *total + now - self.charged;
        self.charged = now;
    }

    /// News for everyone who waits.
    pub(super) fn tell_all(&mut self, id: u32, events: &mut VecDeque<Event>) {
        self.tell_reader(id, events);
        if std::mem::take(&mut self.writer_waits) {
            events.push_back(Event::Writable(id));
        }
        if std::mem::take(&mut self.drain_waits) {
            events.push_back(Event::Drained(id));
        }
    }

    pub(super) fn tell_reader(&mut self, id: u32, events: &mut VecDeque<Event>) {
        if std::mem::take(&mut self.reader_waits) {
            events.push_back(Event::Readable(id));
        }
    }
}

/// Bytes one stream may queue while the session has little queued: the whole frames of two reads in bulk.
const QUEUED_PER_STREAM: usize = 8 * FRAME_PAYLOAD;
/// Bytes all streams may queue before each is held to [`QUEUED_FLOOR`].
const QUEUED_TOTAL: usize = 8 << 20;
const QUEUED_FLOOR: usize = 2 * FRAME_PAYLOAD;
/// How long the last bytes of a stream nobody holds may take to leave.
const LINGER: Duration = Duration::from_secs(10);
/// Stale entries that are not worth a sweep.
const SLACK: usize = 64;
