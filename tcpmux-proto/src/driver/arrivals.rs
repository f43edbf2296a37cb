//! Streams of the cloud whose header is still arriving, and those that wait to be taken.

use std::{
    collections::{HashMap, VecDeque},
    task::Waker,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::{
    StreamHeader,
    buffers::fit,
    mux::{Read, Session},
};

/// The device's side of opening. Everything here is bounded by the session's limit of inbound streams.
pub(crate) struct Arrivals {
    headers: HashMap<u32, Partial>,
    deadline: Duration,
    /// When to look for headers that took too long; set while one is incomplete.
    pub(crate) sweep: Option<Instant>,
    pub(super) ready: VecDeque<Arrived>,
    pub(super) waker: Option<Waker>,
    open: bool,
}

/// A stream whose header is complete.
pub(crate) struct Arrived {
    pub(crate) id: u32,
    pub(crate) header: StreamHeader,
    /// What came behind the header.
    pub(crate) rest: Bytes,
}

struct Partial {
    bytes: BytesMut,
    until: Instant,
}

impl Arrivals {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            headers: HashMap::new(),
            deadline,
            sweep: None,
            ready: VecDeque::new(),
            waker: None,
            open: true,
        }
    }

    /// Whether this stream's header is still arriving.
    pub(super) fn awaits(&self, id: u32) -> bool {
        self.headers.contains_key(&id)
    }

    /// A stream was opened. Returns who waits for it where its header is there already.
    pub(super) fn begin(
        &mut self,
        id: u32,
        session: &mut Session,
        at: Instant,
        now: Duration,
    ) -> Option<Waker> {
        if !self.open {
            session.release(id, now);
            return None;
        }
        let until = at + self.deadline;
        self.headers.insert(id, Partial { bytes: BytesMut::new(), until });
        let waker = self.go_on(id, session, now);
        if self.awaits(id) {
            self.sweep.get_or_insert(until);
        }
        waker
    }

    /// More of a header arrived.
    pub(super) fn go_on(&mut self, id: u32, session: &mut Session, now: Duration) -> Option<Waker> {
        let partial = self.headers.get_mut(&id)?;
        loop {
            match session.read(id, now) {
                Read::Data(piece) => match partial.take(piece) {
                    Ok(None) => {}
                    Ok(Some((header, rest))) => {
                        self.headers.remove(&id);
                        self.ready.push_back(Arrived { id, header, rest });
                        return self.waker.take();
                    }
                    Err(_) => break,
                },
                Read::Wait => return None,
                Read::Finished | Read::Reset | Read::Ended => break,
            }
        }
        self.headers.remove(&id);
        session.release(id, now);
        None
    }

    /// Gives up on headers that took too long.
    pub(crate) fn sweep(&mut self, session: &mut Session, at: Instant, now: Duration) {
        if self.sweep.is_none_or(|due| at < due) {
            return;
        }
        self.headers.retain(|id, partial| {
            let keep = at < partial.until;
            if !keep {
                session.release(*id, now);
            }
            keep
        });
        self.sweep = self.headers.values().map(|partial| partial.until).min();
    }

    /// Gives back memory that only a busy session needs.
    pub(super) fn shrink(&mut self) {
        self.headers.shrink_to_fit();
        fit(&mut self.ready);
    }

    /// Nobody takes streams any more: those that wait and all later ones are reset.
    pub(crate) fn close(&mut self, session: &mut Session, now: Duration) {
        self.open = false;
        let waiting = self.ready.drain(..).map(|arrived| arrived.id);
        for id in waiting.chain(self.headers.drain().map(|(id, _)| id)) {
            session.release(id, now);
        }
    }

    /// The session has ended: who waits hears of it.
    pub(super) fn end(&mut self) -> Option<Waker> {
        self.headers.clear();
        self.ready.clear();
        self.waker.take()
    }
}

impl Partial {
    /// Adds a piece; the header and what is behind it once complete.
    fn take(&mut self, piece: Bytes) -> Result<Option<(StreamHeader, Bytes)>, crate::HeaderError> {
        // The common case: all of the header in the first piece, which then needs no copy.
        let mut all = if self.bytes.is_empty() {
            piece
        } else {
            self.bytes.extend_from_slice(&piece);
            std::mem::take(&mut self.bytes).freeze()
        };
        match StreamHeader::length(&all)? {
            Some(length) if length <= all.len() => {
                let header = StreamHeader::decode(&all[..length])?;
                let _ = all.split_to(length);
                Ok(Some((header, all)))
            }
            _ => {
                self.bytes = BytesMut::from(all);
                Ok(None)
            }
        }
    }
}
