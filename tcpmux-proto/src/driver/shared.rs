//! What the driver and the holders of streams share: the session, and who waits for it.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use model::DisconnectCause;
use tokio::{sync::Notify, time::Instant};

use super::arrivals::{Arrivals, Arrived};
use crate::{
    OpenError,
    mux::{End, Event, FIRST_STREAM, Room, Session},
};

/// One tunnel, behind one small lock that is never held across an await nor while bytes are copied in bulk.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Told when the session ends, when it becomes idle, and when the control stream arrives.
    news: Notify,
    start: Instant,
}

pub(crate) struct State {
    pub(crate) session: Session,
    readers: HashMap<u32, Waker>,
    writers: HashMap<u32, Waker>,
    /// The device's end only: the cloud takes no streams.
    pub(crate) arrivals: Option<Arrivals>,
    pub(crate) control_arrived: bool,
    pub(crate) last_heard: Instant,
    /// The driver's timer may stand at a deadline that is too late.
    pub(crate) new_times: bool,
    /// Set once, with the end of the session.
    pub(crate) cause: Option<DisconnectCause>,
    /// The driver, while it sleeps.
    pub(crate) driver: Option<Waker>,
    /// Wakers nobody needs any more. They are dropped without the lock: the last waker of a task may drop the task,
    /// and with it a stream, which takes the lock.
    stale: Vec<Waker>,
}

impl Shared {
    pub(crate) fn new(session: Session, arrivals: Option<Arrivals>, start: Instant) -> Self {
        let state = State {
            session,
            readers: HashMap::new(),
            writers: HashMap::new(),
            arrivals,
            control_arrived: false,
            last_heard: start,
            new_times: false,
            cause: None,
            driver: None,
            stale: Vec::new(),
        };
        Self { state: Mutex::new(state), news: Notify::new(), start }
    }

    /// Looks at the state, changing nothing that anyone waits for.
    pub(crate) fn look(&self) -> MutexGuard<'_, State> {
        // A panic under the lock ends the driver's task and with it the session; the state is still a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes whoever has news, the driver too where there is something to send.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&mut State, Duration) -> R) -> R {
        let now = Instant::now();
        let mut state = self.look();
        let result = act(&mut state, self.since_start(now));
        let mut wakes = Wakes::default();
        state.hand_out(&mut wakes, now, self.since_start(now));
        if state.session.has_output() || state.cause.is_some() || state.new_times {
            wakes.extend(state.driver.take());
        }
        let stale = std::mem::take(&mut state.stale);
        drop(state);
        drop(stale);
        if wakes.news {
            self.news.notify_waiters();
        }
        wakes.first.into_iter().chain(wakes.second).chain(wakes.more).for_each(Waker::wake);
        result
    }

    /// Ends the session, if it has not ended: the first cause counts.
    pub(crate) fn close(&self, cause: DisconnectCause) {
        self.act(|state, _| {
            state.cause.get_or_insert(cause);
            state.session.end(if cause == DisconnectCause::Lost { End::Lost } else { End::Closed });
        });
    }

    /// Waits until the state has something to say.
    pub(crate) async fn wait<R>(&self, mut look: impl FnMut(&State) -> Option<R>) -> R {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(result) = look(&self.look()) {
                return result;
            }
            news.await;
        }
    }

    pub(crate) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    pub(crate) fn instant(&self, since_start: Duration) -> Instant {
        self.start + since_start
    }
}

/// Who has to be woken once the lock is free.
///
/// Nearly always it is the driver, a reader or both: they need no allocation.
#[derive(Default)]
struct Wakes {
    first: Option<Waker>,
    second: Option<Waker>,
    more: Vec<Waker>,
    news: bool,
}

impl Extend<Waker> for Wakes {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        for waker in wakers {
            match (&mut self.first, &mut self.second) {
                (first @ None, _) => *first = Some(waker),
                (_, second @ None) => *second = Some(waker),
                _ => self.more.push(waker),
            }
        }
    }
}

impl State {
    fn hand_out(&mut self, wakes: &mut Wakes, at: Instant, now: Duration) {
        if let (Some(end), None) = (self.session.ended(), self.cause) {
            self.cause = Some(cause_of(end));
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened(FIRST_STREAM) if self.arrivals.is_none() => {
                    self.control_arrived = true;
                    wakes.news = true;
                }
                Event::Opened(id) => match &mut self.arrivals {
                    Some(arrivals) => wakes.extend(arrivals.begin(id, &mut self.session, at, now)),
                    // A device opens the control stream and no other.
                    None => self.session.release(id, now),
                },
                Event::Readable(id) => match &mut self.arrivals {
                    Some(arrivals) if arrivals.awaits(id) => {
                        wakes.extend(arrivals.go_on(id, &mut self.session, now));
                    }
                    _ => wakes.extend(self.readers.remove(&id)),
                },
                Event::Writable(id) | Event::Drained(id) => wakes.extend(self.writers.remove(&id)),
                Event::Idle => wakes.news = true,
                Event::PeerDraining => {}
            }
        }
        if self.cause.is_some() {
            // Everyone hears of the end, also those who wait for a stream that is not there.
            wakes.news = true;
            wakes.extend(self.readers.drain().map(|(_, waker)| waker));
            wakes.extend(self.writers.drain().map(|(_, waker)| waker));
            wakes.extend(self.arrivals.as_mut().and_then(Arrivals::end));
        }
    }

    /// Waits until a stream has room; returns how many bytes.
    pub(crate) fn poll_room(&mut self, id: u32, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        match self.session.room(id) {
            Room::Bytes(room) => Poll::Ready(Ok(room)),
            Room::Wait => {
                self.wait_to_write(id, cx);
                Poll::Pending
            }
            Room::Finished => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Room::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Room::Ended => Poll::Ready(Err(OpenError::Lost.into())),
        }
    }

    /// Remembers who reads a stream.
    pub(crate) fn wait_to_read(&mut self, id: u32, cx: &Context<'_>) {
        self.stale.extend(self.readers.insert(id, cx.waker().clone()));
    }

    /// Remembers who writes a stream, or waits until it is drained.
    pub(crate) fn wait_to_write(&mut self, id: u32, cx: &Context<'_>) {
        self.stale.extend(self.writers.insert(id, cx.waker().clone()));
    }

    /// The next stream that arrived, if there is one; else the waker is told of it later.
    pub(crate) fn next_arrived(&mut self, cx: &Context<'_>) -> Option<Arrived> {
        let arrivals = self.arrivals.as_mut()?;
        let next = arrivals.ready.pop_front();
        if next.is_none() {
            self.stale.extend(arrivals.waker.replace(cx.waker().clone()));
        }
        next
    }

    /// Nobody holds this stream any more.
    pub(crate) fn release(&mut self, id: u32, now: Duration) {
        self.stale.extend(self.readers.remove(&id));
        self.stale.extend(self.writers.remove(&id));
        self.session.release(id, now);
    }

    /// Gives back memory that only a busy session needs.
    pub(crate) fn shrink(&mut self) {
        self.session.shrink();
        self.readers.shrink_to_fit();
        self.writers.shrink_to_fit();
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.shrink();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.look();
        f.debug_struct("Tunnel")
            .field("streams", &state.session.stream_count())
            .field("ended", &state.cause)
            .finish_non_exhaustive()
    }
}

fn cause_of(end: End) -> DisconnectCause {
    match end {
        End::Closed => DisconnectCause::Closed,
        End::Lost => DisconnectCause::Lost,
        End::Silent => DisconnectCause::Silent,
        End::Protocol(_) | End::PeerGoAway(_) => DisconnectCause::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_tunnel_is_small() {
        let shared = size_of::<Shared>();
        let driver = size_of::<crate::Driver<()>>();
        assert!(shared <= 1100 && driver <= 256, "{shared} B shared, {driver} B driver");
    }
}
