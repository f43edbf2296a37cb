//! The session: what streams can do, and how it begins and ends.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{
    error::ProtocolError,
    flood::Flood,
    ids::{OwnIds, PeerIds, Role},
    pulse::Pulse,
    receive::Input,
    scheduler::Scheduler,
    stream::{Receiving, Sending, Stream},
    window::Tuning,
};
use crate::frame::{FrameHeader, SYN};

/// One multiplexed connection.
#[derive(Debug)]
pub struct Session {
    pub(super) limits: Limits,
    // Boxed: the table of an idle session stays small, and growing it moves pointers only.
    pub(super) streams: HashMap<u32, Box<Stream>>,
    pub(super) own_ids: OwnIds,
    pub(super) peer_ids: PeerIds,
    pub(super) ours: usize,
    pub(super) theirs: usize,
    pub(super) input: Input,
    /// Frames of our own will that go first. Bounded: at most one reset for each stream announced.
    pub(super) urgent: VecDeque<FrameHeader>,
    /// Answers the peer asked for, at most [`MAX_REPLIES`].
    pub(super) replies: VecDeque<FrameHeader>,
    /// Streams that owe credit, each once.
    pub(super) updates: VecDeque<u32>,
    pub(super) scheduler: Scheduler,
    pub(super) flood: Flood,
    pub(super) pulse: Pulse,
    pub(super) charged: usize,
    pub(super) queued: usize,
    /// Streams nobody holds whose last bytes have not left, and when they are given up.
    lingering: VecDeque<(Duration, u32)>,
    pub(super) events: VecDeque<Event>,
    pub(super) draining: bool,
    pub(super) peer_draining: bool,
    pub(super) end: Option<End>,
}

/// Bounds of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams that we may have open.
    pub open_streams: usize,
    /// Streams that the peer may have open; more are reset one by one.
    pub inbound_streams: usize,
    /// The widest receive window.
    pub max_window: u32,
    /// How far all windows together may grow beyond their start.
    pub window_budget: usize,
    /// Silence after which we ping, and after which the peer is dead.
    pub heartbeat: Duration,
    /// See `heartbeat`.
    pub silence: Duration,
}

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
    /// So many bytes may be queued.
    Bytes(usize),
    /// None now: an [`Event::Writable`] will follow.
    Wait,
    /// We finished already.
    Finished,
    /// The peer reset the stream.
    Reset,
    /// The session has ended.
    Ended,
}

/// Why no stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenRefused {
    /// The limit is reached.
    Busy,
    /// One side drains, or ids have run out.
    Draining,
    /// The session has ended.
    Ended,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// We ended it.
    Closed,
    /// The connection was lost.
    Lost,
    /// Nothing was heard for too long.
    Silent,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// The peer says that we did, or that it failed: a GoAway with this code.
    PeerGoAway(u32),
}

impl Session {
    /// A session that just began. It asks for the round trip at once.
    pub fn new(role: Role, limits: Limits, now: Duration) -> Self {
        let mut pulse = Pulse::new(limits.heartbeat, limits.silence, now);
        let urgent = pulse.probe(now).map(|opaque| FrameHeader::ping(SYN, opaque)).into_iter().collect();
        Self {
            limits,
            streams: HashMap::new(),
            own_ids: OwnIds::new(role),
            peer_ids: PeerIds::new(role),
            ours: 0,
            theirs: 0,
            input: Input::default(),
            urgent,
            replies: VecDeque::new(),
            updates: VecDeque::new(),
            scheduler: Scheduler::default(),
            flood: Flood::new(now),
            pulse,
            charged: 0,
            queued: 0,
            lingering: VecDeque::new(),
            events: VecDeque::new(),
            draining: false,
            peer_draining: false,
            end: None,
        }
    }

    /// Opens a stream. The peer hears of it with its first bytes.
    pub fn open(&mut self) -> Result<u32, OpenRefused> {
        if self.end.is_some() {
            return Err(OpenRefused::Ended);
        }
        if self.draining || self.peer_draining {
            return Err(OpenRefused::Draining);
        }
        if self.ours >= self.limits.open_streams {
            return Err(OpenRefused::Busy);
        }
        let id = self.own_ids.take().ok_or(OpenRefused::Draining)?;
        self.streams.insert(id, Box::new(Stream::ours()));
        self.ours += 1;
        Ok(id)
    }

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
        if room > 0 {
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

    /// Tells the peer to open no more streams, and opens none.
    pub fn drain(&mut self) {
        if self.end.is_none() && !self.draining {
            self.draining = true;
            self.urgent.push_back(FrameHeader::go_away(GO_AWAY_NORMAL));
        }
    }

    /// Does what time asks for: pings, gives up. Call it when [`Self::deadline`] has come.
    pub fn tick(&mut self, now: Duration) {
        if self.end.is_some() {
            return;
        }
        if self.pulse.is_silent(now) {
            return self.end(End::Silent);
        }
        if let Some(opaque) = self.pulse.beat(now) {
            self.urgent.push_back(FrameHeader::ping(SYN, opaque));
        }
        while let Some((_, id)) = self.lingering.pop_front_if(|(at, _)| *at <= now) {
            if self.streams.get(&id).is_some_and(|stream| !stream.held) {
                self.cut(id);
            }
        }
    }

    /// When [`Self::tick`] is due; `None` once the session has ended.
    pub fn deadline(&self) -> Option<Duration> {
        let lingering = self.lingering.front().map(|(at, _)| *at);
        let pulse = self.pulse.deadline();
        self.end.is_none().then(|| lingering.map_or(pulse, |at| at.min(pulse)))
    }

    /// Ends the session. Unread bytes are dropped, except those of stream 1: its last message says why.
    pub fn end(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.urgent.clear();
        self.replies.clear();
        self.updates.clear();
        self.scheduler.clear();
        self.lingering.clear();
        match end {
            End::Closed | End::Silent => self.urgent.push_back(FrameHeader::go_away(GO_AWAY_NORMAL)),
            End::Protocol(_) => self.urgent.push_back(FrameHeader::go_away(GO_AWAY_PROTOCOL_ERROR)),
            End::Lost | End::PeerGoAway(_) => {}
        }
        self.queued = 0;
        self.streams.retain(|_, stream| stream.held);
        for (id, stream) in &mut self.streams {
            stream.outgoing.clear();
            if *id != FIRST_STREAM && !stream.incoming.is_empty() {
                stream.incoming.clear();
                // With bytes dropped, what follows them is no clean end any more.
                stream.receiving = Receiving::Open;
            }
            stream.tell_all(*id, &mut self.events);
        }
    }

    /// How the session ended, if it has.
    pub fn ended(&self) -> Option<End> {
        self.end
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Uses other times from now on.
    pub fn set_times(&mut self, heartbeat: Duration, silence: Duration) {
        self.pulse.set_times(heartbeat, silence);
    }

    /// Whether the peer said that it takes no new streams.
    pub fn is_peer_draining(&self) -> bool {
        self.peer_draining
    }

    /// Whether either side takes no new streams.
    pub fn is_draining(&self) -> bool {
        self.draining || self.peer_draining
    }

    /// Streams that exist, both ways, without the first one.
    pub fn stream_count(&self) -> usize {
        self.streams.len() - usize::from(self.streams.contains_key(&FIRST_STREAM))
    }

    /// Gives back memory that only a busy session needs.
    pub fn shrink(&mut self) {
        self.streams.shrink_to_fit();
        self.scheduler.shrink();
        self.updates.shrink_to_fit();
        self.urgent.shrink_to_fit();
        self.replies.shrink_to_fit();
        self.events.shrink_to_fit();
        self.lingering.shrink_to_fit();
    }

    /// Streams that can still be opened before ids run out.
    pub fn opens_left(&self) -> u32 {
        self.own_ids.left()
    }

    /// The smallest round trip measured lately.
    pub fn round_trip(&self) -> Option<Duration> {
        self.pulse.round_trip()
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
            let streams = &self.streams;
            self.lingering.retain(|(_, id)| streams.contains_key(id));
        }
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

/// The stream whose unread bytes survive the end of the session: the control stream.
pub(crate) const FIRST_STREAM: u32 = 1;
/// Answers that may wait for the socket.
pub(super) const MAX_REPLIES: usize = 1024;
pub(super) const GO_AWAY_NORMAL: u32 = 0;
const GO_AWAY_PROTOCOL_ERROR: u32 = 1;
/// Bytes one stream may queue while the session has little queued.
const QUEUED_PER_STREAM: usize = 128 * 1024;
/// Bytes all streams may queue before each is held to [`QUEUED_FLOOR`].
const QUEUED_TOTAL: usize = 8 << 20;
const QUEUED_FLOOR: usize = 32 * 1024;
/// How long the last bytes of a stream nobody holds may take to leave.
const LINGER: Duration = Duration::from_secs(10);
/// Stale entries that are not worth a sweep.
const SLACK: usize = 64;
