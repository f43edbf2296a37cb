//! The one task of a tunnel: moves bytes between the connection and the session.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use model::DisconnectCause;
use tokio::{
    task::yield_now,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    Link, buffers,
    mux::{End, Outbox},
};

mod arrivals;
mod shared;

pub(crate) use arrivals::{Arrivals, Arrived};
pub(crate) use shared::{Shared, State};

/// The one task of a tunnel: moves bytes between the connection and the streams until the session has ended.
///
/// Dropping it ends the session with cause [`DisconnectCause::Lost`].
#[must_use = "a tunnel whose driver is not spawned does nothing"]
pub struct Driver<IO> {
    io: IO,
    shared: Arc<Shared>,
    write_progress: Duration,
    heard: Instant,
    /// Bytes came since memory was last given back.
    stirred: bool,
    when_quiet: fn(),
    outbox: Outbox,
    unflushed: bool,
    /// Set while the socket takes nothing although bytes wait.
    stuck: Option<Stuck>,
    timer: Pin<Box<Sleep>>,
    closing: Option<Closing>,
    detail: Option<String>,
}

/// How a session ended: what the driver returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The cause as others see it.
    pub cause: DisconnectCause,
    /// For the log: the protocol error by name, or the I/O error.
    pub detail: Option<String>,
}

/// The end of a connection: last frames out, then ours is shut, then the peer's end is awaited, all within a moment.
struct Closing {
    until: Instant,
    shut: bool,
    peer_gone: bool,
}

/// A connection that takes nothing.
struct Stuck {
    since: Instant,
    /// What a TLS layer may swallow without the socket having taken a byte.
    swallows: usize,
}

/// Whether a direction can go on at once.
#[derive(PartialEq, Eq)]
enum Turn {
    /// It waits for the socket, or has nothing to do.
    Waits,
    /// It had its share; others first.
    Yields,
}

impl<IO: Link> Driver<IO> {
    pub(crate) fn new(io: IO, shared: Arc<Shared>, write_progress: Duration, now: Instant) -> Self {
        Self {
            io,
            shared,
            write_progress,
            heard: now,
            stirred: false,
            when_quiet: || (),
            outbox: Outbox::default(),
            unflushed: false,
            stuck: None,
            timer: Box::pin(sleep_until(now)),
            closing: None,
            detail: None,
        }
    }

    /// Has this done, more than once, when the session has been quiet for a second and has given back its memory: what the process
    /// may do about its allocator.
    pub fn when_quiet(mut self, tidy: fn()) -> Self {
        self.when_quiet = tidy;
        self
    }

    fn tick(&mut self, at: Instant) {
        if self.closing.is_some() {
            return;
        }
        if self.stuck.as_ref().is_some_and(|stuck| at >= stuck.since + self.write_progress) {
            self.detail = Some(format!("the connection took no byte for {:?}", self.write_progress));
            return self.end(End::Silent);
        }
        if self.may_release() && at >= self.heard + KEEP {
            self.stirred = false;
            self.outbox.release();
            buffers::release();
            // What shrinks moves, and finds its place among what is free by now; what it leaves is free, too.
            (self.when_quiet)();
            self.shared.look().shrink();
            (self.when_quiet)();
        }
        self.shared.act(|state, now| {
            state.session.tick(now);
            if let Some(arrivals) = &mut state.arrivals {
                arrivals.sweep(&mut state.session, at, now);
            }
        });
    }

    /// Reads until the connection has no more, whatever waits to be written.
    fn poll_input(&mut self, cx: &mut Context<'_>, at: Instant) -> Turn {
        for _ in 0..READS_A_TURN {
            if self.closing.as_ref().is_some_and(|closing| closing.peer_gone) {
                return Turn::Waits;
            }
            // What arrived together is told together: whoever reads is woken once.
            let mut pieces = [const { None }; PIECES_A_READ];
            let mut stopped = None;
            for piece in &mut pieces {
                match Pin::new(&mut self.io).poll_next(cx) {
                    Poll::Ready(Some(Ok(bytes))) => *piece = Some(bytes),
                    other => {
                        stopped = Some(other);
                        break;
                    }
                }
            }
            if pieces[0].is_some() {
                (self.heard, self.stirred) = (at, true);
                self.shared.act(|state, now| {
                    state.last_heard = at;
                    for mut piece in pieces.into_iter().flatten() {
                        state.session.receive(&mut piece, now);
                    }
                });
            }
            match stopped {
                None => {}
                Some(Poll::Pending) => return Turn::Waits,
                Some(Poll::Ready(end)) => self.on_peer_gone(end.and_then(Result::err)),
            }
        }
        Turn::Yields
    }

    /// Writes what the session has to say, as many frames at once as the connection takes, one flush at the end.
    fn poll_output(&mut self, cx: &mut Context<'_>, at: Instant) -> Turn {
        for _ in 0..WRITES_A_TURN {
            if self.outbox.len() < OUTBOX_LOW {
                let outbox = &mut self.outbox;
                self.shared.act(|state, now| state.session.transmit(outbox, OUTBOX_HIGH, now));
            }
            if self.outbox.is_empty() {
                return self.poll_flush(cx, at);
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(0)) => self.on_peer_gone(Some(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.stuck = self.stuck.take().and_then(|stuck| stuck.after(count));
                    self.unflushed = true;
                    self.outbox.advance(count);
                }
                Poll::Ready(Err(error)) => self.on_peer_gone(Some(error)),
                Poll::Pending => {
                    self.stuck.get_or_insert(Stuck { since: at, swallows: 0 });
                    return Turn::Waits;
                }
            }
        }
        Turn::Yields
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.outbox.slices(&mut slices);
        let io = Pin::new(&mut self.io);
        if io.is_write_vectored() {
            io.poll_write_vectored(cx, &slices[..count])
        } else {
            io.poll_write(cx, &slices[0])
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, at: Instant) -> Turn {
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => (self.unflushed, self.stuck) = (false, None),
                Poll::Ready(Err(error)) => self.on_peer_gone(Some(error)),
                Poll::Pending => {
                    self.stuck.get_or_insert(Stuck { since: at, swallows: TLS_BUFFER });
                }
            }
        }
        Turn::Waits
    }

    /// The connection cannot be used any more, in one direction or both.
    fn on_peer_gone(&mut self, error: Option<io::Error>) {
        self.outbox = Outbox::default();
        self.unflushed = false;
        if let Some(closing) = &mut self.closing {
            (closing.peer_gone, closing.shut) = (true, true);
            return;
        }
        if let Some(error) = error {
            self.detail.get_or_insert(error.to_string());
        }
        // A peer that said it would open no more and then hung up did so on purpose.
        let end = if self.shared.look().session.is_peer_draining() { End::Closed } else { End::Lost };
        self.end(end);
        let until = self.heard;
        self.closing = Some(Closing { until, shut: false, peer_gone: true });
    }

    fn may_release(&self) -> bool {
        self.stirred && self.outbox.is_empty()
    }

    fn end(&self, end: End) {
        self.shared.act(|state, _| state.session.end(end));
    }

    /// Once the session has ended: the last steps, and `Ready` when there is nothing more to wait for.
    fn poll_closing(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<Ended> {
        let (cause, end) = {
            let state = self.shared.look();
            let Some(cause) = state.cause else { return Poll::Pending };
            (cause, state.session.ended())
        };
        if self.detail.is_none() {
            self.detail = end.and_then(detail_of);
        }
        let closing =
            self.closing.get_or_insert(Closing { until: at + CLOSING, shut: false, peer_gone: false });
        if !closing.shut && self.outbox.is_empty() && !self.unflushed {
            closing.shut = match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => {
                    closing.peer_gone = true;
                    true
                }
                Poll::Pending => false,
            };
        }
        if (closing.shut && closing.peer_gone) || at >= closing.until {
            return Poll::Ready(Ended { cause, detail: self.detail.take() });
        }
        Poll::Pending
    }

    fn next_deadline(&self) -> Option<Instant> {
        if let Some(closing) = &self.closing {
            return Some(closing.until);
        }
        let mut state = self.shared.look();
        state.new_times = false;
        let session = state.session.deadline().map(|at| self.shared.instant(at));
        let sweep = state.arrivals.as_ref().and_then(|arrivals| arrivals.sweep);
        let stuck = self.stuck.as_ref().map(|stuck| stuck.since + self.write_progress);
        let buffer = self.may_release().then(|| self.heard + KEEP);
        [session, sweep, stuck, buffer].into_iter().flatten().min()
    }

    /// Sets the timer; `true` when a deadline has come already.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.next_deadline() else { return false };
        // A timer that is too early only costs a look; moving it at every byte would cost more.
        if deadline < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Whether the driver may sleep: nobody gave it work since it looked.
    fn sleep(&self, cx: &Context<'_>) -> bool {
        let mut state = self.shared.look();
        let blocked = self.stuck.is_some() || self.closing.is_some();
        let has_work = state.new_times || (!blocked && (state.session.has_output() || state.cause.is_some()));
        if !has_work {
            state.driver = Some(cx.waker().clone());
        }
        !has_work
    }
}

impl<IO: Link> Future for Driver<IO> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        // Awake: what happens from here on is seen before it sleeps, and must not wake it.
        this.shared.look().driver = None;
        loop {
            let at = Instant::now();
            this.tick(at);
            let input = this.poll_input(cx, at);
            let output = this.poll_output(cx, at);
            if let Poll::Ready(ended) = this.poll_closing(cx, at) {
                return Poll::Ready(ended);
            }
            if this.poll_timer(cx) {
                continue;
            }
            if input == Turn::Yields || output == Turn::Yields {
                // Behind everybody who is ready. A plain wake would have a second worker woken to help with it.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
            if this.sleep(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.shared.close(DisconnectCause::Lost);
    }
}

impl<IO> std::fmt::Debug for Driver<IO> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("tunnel", &self.shared).finish_non_exhaustive()
    }
}

impl Stuck {
    /// The connection took bytes; whether it may be stuck all the same.
    fn after(self, count: usize) -> Option<Self> {
        let swallows = self.swallows.saturating_sub(count);
        (swallows > 0).then_some(Self { swallows, ..self })
    }
}

fn detail_of(end: End) -> Option<String> {
    match end {
        End::Protocol(error) => Some(error.to_string()),
        End::PeerGoAway(code) => Some(format!("the peer ended the session with code {code}")),
        End::Silent => Some("nothing was heard from the peer".into()),
        End::Closed | End::Lost => None,
    }
}

/// How long a quiet tunnel keeps the memory of a busy one.
const KEEP: Duration = Duration::from_secs(1);
/// Below the first mark the outbox is filled up to the second: what is framed can no longer be overtaken.
const OUTBOX_LOW: usize = 32 * 1024;
const OUTBOX_HIGH: usize = 64 * 1024;
const SLICES: usize = 32;
/// What an encrypted connection takes before it waits for the socket: about four records.
const TLS_BUFFER: usize = 64 * 1024;
/// Shares of one poll, so that whoever was told of a small answer has not to wait until much else is opened or sealed:
/// 64 KiB each way cost about 30 us. What arrived at once is told at once: with fewer reads bulk has its readers woken
/// more often than they can use.
const READS_A_TURN: usize = 4;
/// Four full records.
const PIECES_A_READ: usize = 4;
const WRITES_A_TURN: usize = 2;
/// How long the last frames and the peer's end may take.
const CLOSING: Duration = Duration::from_millis(500);
