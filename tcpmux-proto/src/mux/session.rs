//! The session: what streams can do, and how it begins and ends.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    error::ProtocolError,
    flood::Flood,
    ids::{OwnIds, PeerIds, Role},
    pulse::Pulse,
    receive::Input,
    scheduler::Scheduler,
    stream::{Receiving, Stream},
    streams::Event,
};
use crate::{
    buffers::fit,
    frame::{FrameHeader, SYN},
};

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
    pub(super) lingering: VecDeque<(Duration, u32)>,
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

    /// Bytes that streams hold: those that came and were not read, and those that were written and have not left.
    pub fn held_bytes(&self) -> usize {
        self.queued + self.streams.values().map(|stream| stream.incoming.len()).sum::<usize>()
    }

    /// Gives back memory that only a busy session needs.
    pub fn shrink(&mut self) {
        self.streams.shrink_to_fit();
        self.scheduler.shrink();
        fit(&mut self.updates);
        fit(&mut self.urgent);
        fit(&mut self.replies);
        fit(&mut self.events);
        self.forget_gone();
        fit(&mut self.lingering);
        self.peer_ids.shrink();
    }

    /// Streams that can still be opened before ids run out.
    pub fn opens_left(&self) -> u32 {
        self.own_ids.left()
    }

    /// The smallest round trip measured lately.
    pub fn round_trip(&self) -> Option<Duration> {
        self.pulse.round_trip()
    }
}

/// The stream whose unread bytes survive the end of the session: the control stream.
pub(crate) const FIRST_STREAM: u32 = 1;
/// Answers that may wait for the socket.
pub(super) const MAX_REPLIES: usize = 1024;
pub(super) const GO_AWAY_NORMAL: u32 = 0;
const GO_AWAY_PROTOCOL_ERROR: u32 = 1;
