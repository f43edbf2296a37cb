//! One subscription: first what it missed, read from the log, then what is handed out live; nothing twice, nothing
//! left out.

use std::{collections::VecDeque, sync::Arc};

use model::{Code, Refusal, SubscriberActor, Timestamp};
use runtime::Clock;
use store::Store;
use tokio::sync::{mpsc, watch};

use super::feed::{Ending, Feed, Interest, Logged, Member};

/// Events for one listener, in their order.
pub(crate) struct Subscription {
    store: Store,
    clock: Clock,
    feed: Arc<Feed>,
    member: Arc<Member>,
    queue: mpsc::Receiver<Arc<Logged>>,
    ended: watch::Receiver<Option<Ending>>,
    /// Everything up to here was read or is waiting in `read`.
    position: u64,
    read: VecDeque<Arc<Logged>>,
    /// Until where the log has to be read; `None` before the feed was joined.
    joined_at: Option<u64>,
    /// Whether rights were read after that: a change before is not told to a member.
    has_looked: bool,
}

impl Subscription {
    /// Opens one. With `after`, it begins with what the log holds after that number.
    ///
    /// # Errors
    /// When too many listen, or the store does not answer.
    pub(crate) async fn open(
        store: Store,
        clock: Clock,
        feed: Arc<Feed>,
        actor: &SubscriberActor,
        interest: Interest,
        ends_with_rights: bool,
        after: Option<u64>,
    ) -> Result<Self, Refusal> {
        let (tenant, user) = (actor.tenant().clone(), actor.user().clone());
        let (member, queue, ended) = Member::new(tenant, user, interest, ends_with_rights);
        let position = after.unwrap_or_else(|| feed.position());
        let read = VecDeque::new();
        let (joined_at, has_looked) = (None, false);
        let mut this =
            Self { store, clock, feed, member, queue, ended, position, read, joined_at, has_looked };
        if after.is_none() {
            // From now on, also where the feed has not come so far yet.
            let newest = *this.store.newest_event().borrow();
            this.position = this.join()?.max(newest);
        }
        this.look().await?;
        this.has_looked = after.is_none();
        Ok(this)
    }

    /// The next event, in its time.
    ///
    /// # Errors
    /// [`Ending`] when there will be no more.
    ///
    /// Nothing is lost if this is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Arc<Logged>, Ending> {
        loop {
            if let Some(ending) = *self.ended.borrow() {
                return Err(ending);
            }
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            if self.joined_at.is_some() && !self.has_looked {
                self.look().await.map_err(|refusal| unavailable(&refusal.detail))?;
                self.has_looked = true;
                continue;
            }
            if self.joined_at.is_none_or(|joined| self.position < joined) {
                self.read_on().await?;
                continue;
            }
            let event = tokio::select! {
                biased;
                // The loop reads why.
                _ = self.ended.wait_for(Option::is_some) => continue,
                event = self.queue.recv() => event.ok_or(Ending::Unavailable)?,
            };
            if self.may_have(&event) {
                return Ok(event);
            }
        }
    }

    /// Resolves when it is over by our doing, also while nobody asks for the next event.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<Ending>> {
        self.ended.clone()
    }

    /// Once more at the moment of giving: rights may have changed while it waited.
    fn may_have(&self, event: &Logged) -> bool {
        let now = self.clock.now();
        event.row.seq > self.position && self.member.sight().is_some_and(|sight| sight.sees(&event.row, now))
    }

    /// A page of the log; near its end the feed is joined, so that nothing is missed between the two.
    async fn read_on(&mut self) -> Result<(), Ending> {
        if self.joined_at.is_none() && self.feed.position().saturating_sub(self.position) <= NEAR {
            self.join().map_err(|refusal| unavailable(&refusal.detail))?;
            return Ok(());
        }
        let end = self.joined_at.unwrap_or_else(|| self.feed.position());
        let up_to = end.min(self.position.saturating_add(PAGE));
        if up_to > self.position {
            if self.joined_at.is_none() {
                self.look().await.map_err(|refusal| unavailable(&refusal.detail))?;
            }
            let page = self.store.events_of_tenant(&self.member.tenant, self.position, up_to).await;
            // Looked at after the page: what was deleted before it was read is known then.
            let forgotten = self.store.events_forgotten().await.map_err(|error| unavailable(&error))?;
            if forgotten > self.position {
                return Err(Ending::Forgotten);
            }
            let now = self.clock.now();
            for row in page.map_err(|error| unavailable(&error))? {
                if self.member.gets(&row, now) {
                    self.read.push_back(Arc::new(Logged::new(row)));
                }
            }
            self.position = up_to;
        }
        Ok(())
    }

    /// Joined first, rights second: a change in between is looked at by the feed.
    fn join(&mut self) -> Result<u64, Refusal> {
        let joined = self.feed.join(&self.member)?;
        self.joined_at = Some(joined);
        Ok(joined)
    }

    async fn look(&self) -> Result<(), Refusal> {
        let looked = self.member.look(&self.store, self.clock.now()).await;
        looked.map_err(|error| error.refusal("reading what a subscriber may see"))
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Ending {
    tracing::warn!(%error, "a subscription cannot read the event log");
    Ending::Unavailable
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The feed finds the queue closed at its next event; this frees the place at once.
        self.member.end(Ending::Unavailable);
    }
}

/// Whether the log can be read on after this number, or has forgotten, or never had, what follows it.
pub(crate) async fn is_kept(store: &Store, after: u64) -> Result<bool, Refusal> {
    let forgotten = store.events_forgotten().await;
    let forgotten = forgotten.map_err(|error| error.refusal("reading what was forgotten"))?;
    Ok(after >= forgotten && after <= *store.newest_event().borrow())
}

/// When a subscription has to end: with its proof, and two hours at most.
pub(crate) fn end_of(actor: &SubscriberActor, now: Timestamp) -> Timestamp {
    actor.until().min(now.plus(LONGEST))
}

/// The refusal for a number that the log cannot go on from.
pub(crate) fn gone() -> Refusal {
    let said = "the log does not reach back to this event; read GET /v1/devices/{id}/history, then listen anew \
                without Last-Event-ID";
    Refusal::new(Code::NotFound, said).with_status(410)
}

const PAGE: u64 = 2048;
/// So near to the live end that the rest fits a queue beside what comes meanwhile.
const NEAR: u64 = 512;
const LONGEST: std::time::Duration = std::time::Duration::from_secs(7200);
