//! From the log to everybody who listens: one task reads, each subscription has a bounded queue.
//!
//! The order of the log is the order in which events are handed out, and rights are read anew at the very place
//! in that order where they changed: what follows a change is judged by it. Who does not keep up is cut off.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use model::{Code, DeviceId, Refusal, TenantName, Timestamp, UserId};
use runtime::Clock;
use serde_json::Value;
use store::{EventRow, Store, StoreError};
use tokio::sync::{mpsc, watch};

use super::{cloud_event::CloudEvent, conditions::Conditions, sight::Sight, topic::Pattern};

/// The live end of the log.
pub(crate) struct Feed {
    store: Store,
    clock: Clock,
    table: Mutex<Table>,
}

/// Who listens, and how far the log was handed out to them. Both under one lock, so that a member's first event is
/// the one after the position at which it joined.
#[derive(Default)]
struct Table {
    position: u64,
    members: HashMap<TenantName, Vec<Arc<Member>>>,
}

/// What a subscription wants to hear.
#[derive(Debug, Clone)]
pub(crate) struct Interest {
    /// Events with such a subject …
    pub(crate) pattern: Pattern,
    /// … and data like this …
    pub(crate) conditions: Conditions,
    /// … of these devices; `None` for all.
    pub(crate) devices: Option<BTreeSet<DeviceId>>,
}

/// An event on its way to many.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) row: EventRow,
    text: OnceLock<String>,
}

/// Why a subscription ended by our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its queue was full.
    Slow,
    /// A right that it stood on was lost.
    RightsLost,
    /// The log cannot be read.
    Unavailable,
    /// Retention deleted what it had yet to get.
    Forgotten,
}

/// A subscription as the feed knows it.
pub(crate) struct Member {
    pub(crate) tenant: TenantName,
    pub(crate) user: UserId,
    pub(crate) interest: Interest,
    /// Whether losing a device ends it; otherwise only that device's events end.
    pub(crate) ends_with_rights: bool,
    pub(crate) sight: RwLock<Option<Arc<Sight>>>,
    /// Loads of the sight follow one another, so that the last one set is the newest.
    loading: tokio::sync::Mutex<()>,
    queue: mpsc::Sender<Arc<Logged>>,
    ending: watch::Sender<Option<Ending>>,
}

impl Logged {
    pub(crate) fn new(row: EventRow) -> Self {
        Self { row, text: OnceLock::new() }
    }

    /// Its JSON, written once for all who get all of it.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| CloudEvent::of(&self.row).text())
    }
}

impl Interest {
    /// Whether a device is among those that are listened to.
    pub(crate) fn covers(&self, device: &DeviceId) -> bool {
        self.devices.as_ref().is_none_or(|devices| devices.contains(device))
    }

    /// Whether an event is wanted, whoever may see it.
    pub(crate) fn wants(&self, row: &EventRow) -> bool {
        let event = &row.event;
        let of_device = match &event.device {
            Some(device) => self.covers(device),
            None => self.devices.is_none(),
        };
        of_device && self.pattern.matches(&event.subject) && self.conditions.hold(&event.data)
    }
}

impl Member {
    /// A member and the receiving ends of its queue and of its end.
    pub(crate) fn new(
        tenant: TenantName,
        user: UserId,
        interest: Interest,
        ends_with_rights: bool,
    ) -> (Arc<Self>, mpsc::Receiver<Arc<Logged>>, watch::Receiver<Option<Ending>>) {
        let (queue, events) = mpsc::channel(QUEUE);
        let (ending, ended) = watch::channel(None);
        let (sight, loading) = (RwLock::default(), tokio::sync::Mutex::default());
        let member = Self { tenant, user, interest, ends_with_rights, sight, loading, queue, ending };
        (Arc::new(member), events, ended)
    }

    /// Reads the rights anew. What is lost with them may end the member.
    pub(crate) async fn look(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let _loading = self.loading.lock().await;
        let loaded = Sight::load(store, &self.tenant, &self.user, &self.interest, now).await?;
        let mut sight = self.sight.write().unwrap_or_else(PoisonError::into_inner);
        if self.ends_with_rights && sight.as_ref().is_some_and(|earlier| loaded.has_lost(earlier)) {
            self.end(Ending::RightsLost);
        }
        *sight = Some(Arc::new(loaded));
        Ok(())
    }

    /// Whether it wants this event and may see it. Before its rights are known, whoever takes from the queue judges.
    pub(crate) fn gets(&self, row: &EventRow, now: Timestamp) -> bool {
        self.interest.wants(row) && self.sight().is_none_or(|sight| sight.sees(row, now))
    }

    pub(crate) fn sight(&self) -> Option<Arc<Sight>> {
        self.sight.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it; the first reason stands.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|ended| ended.is_none() && ended.replace(ending).is_none());
    }

    fn has_ended(&self) -> bool {
        self.ending.borrow().is_some() || self.queue.is_closed()
    }
}

impl Feed {
    pub(crate) fn new(store: Store, clock: Clock) -> Arc<Self> {
        let position = *store.newest_event().borrow();
        let table = Mutex::new(Table { position, ..Table::default() });
        Arc::new(Self { store, clock, table })
    }

    /// Hands out what comes, until the store closes.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut newest = self.store.newest_event();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                _ = tick.tick() => self.look_at_ends().await,
            }
            if let Err(error) = self.advance().await {
                tracing::warn!(%error, "the event log cannot be read; everybody who listens is cut off");
                self.all().iter().for_each(|member| member.end(Ending::Unavailable));
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// How far the log was handed out.
    pub(crate) fn position(&self) -> u64 {
        self.table().position
    }

    /// Adds a member. It gets what follows the returned position.
    ///
    /// # Errors
    /// When too many listen already.
    pub(crate) fn join(&self, member: &Arc<Member>) -> Result<u64, Refusal> {
        let mut table = self.table();
        for members in table.members.values_mut() {
            members.retain(|member| !member.has_ended());
        }
        table.members.retain(|_, members| !members.is_empty());
        let all: usize = table.members.values().map(Vec::len).sum();
        let members = table.members.entry(member.tenant.clone()).or_default();
        let of_user = members.iter().filter(|other| other.user == member.user).count();
        if of_user >= MEMBERS_OF_USER {
            let said = "you listen in 64 places already; end one of them";
            return Err(Refusal::new(Code::TooMany, said).retry_after(5));
        }
        if all >= MEMBERS {
            return Err(Refusal::new(Code::Unavailable, "too many listen here; try again").retry_after(30));
        }
        members.push(Arc::clone(member));
        Ok(table.position)
    }

    async fn advance(&self) -> Result<(), StoreError> {
        loop {
            let position = self.position();
            let rows = self.store.events_after(position, BATCH).await?;
            let first = rows.first().map_or(u64::MAX, |row| row.seq);
            // Looked at after the rows: what was deleted before they were read is known then.
            if first > position + 1 && self.store.events_forgotten().await? > position {
                tracing::warn!(
                    "the event log was deleted before it was told; everybody who listens is cut off"
                );
                self.all().iter().for_each(|member| member.end(Ending::Forgotten));
            }
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                if RIGHTS.contains(&row.event.subject.as_str()) {
                    self.rights_changed(&row).await;
                }
                self.hand_out(Arc::new(Logged::new(row)));
            }
        }
    }

    fn hand_out(&self, event: Arc<Logged>) {
        let now = self.clock.now();
        let mut table = self.table();
        table.position = event.row.seq;
        let Some(members) = table.members.get_mut(&event.row.event.tenant) else { return };
        members.retain(|member| {
            if member.gets(&event.row, now) && member.queue.try_send(Arc::clone(&event)).is_err() {
                // Full; or gone, and then nobody reads why.
                member.end(Ending::Slow);
            }
            !member.has_ended()
        });
    }

    /// Somebody's rights changed here in the log.
    async fn rights_changed(&self, row: &EventRow) {
        let concerned = |member: &Arc<Member>| {
            row.event.user.as_ref().is_none_or(|user| *user == member.user)
                && row.event.device.as_ref().is_none_or(|device| member.interest.covers(device))
        };
        let members = self.table().members.get(&row.event.tenant).cloned().unwrap_or_default();
        for member in members.iter().filter(|member| concerned(member)) {
            self.look(member).await;
        }
    }

    /// Grants end by themselves, too.
    async fn look_at_ends(&self) {
        let now = self.clock.now();
        let has_ended = |member: &Arc<Member>| member.sight().is_some_and(|sight| sight.has_ended(now));
        for member in self.all().into_iter().filter(has_ended) {
            self.look(&member).await;
        }
    }

    async fn look(&self, member: &Member) {
        if let Err(error) = member.look(&self.store, self.clock.now()).await {
            tracing::warn!(%error, "rights cannot be read; the subscription is cut off");
            member.end(Ending::Unavailable);
        }
    }

    fn all(&self) -> Vec<Arc<Member>> {
        self.table().members.values().flatten().cloned().collect()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The member's part of an event, where it asked for some fields only.
pub(crate) fn part_of(row: &EventRow, data: &Value) -> String {
    CloudEvent::with_data(row, data).text()
}

/// Events after which somebody's view is another.
const RIGHTS: [&str; 5] =
    ["grant.changed", "device.claimed", "device.released", "device.transferred", "device.removed"];
const BATCH: u32 = 1024;
/// Events that wait for one subscription.
pub(crate) const QUEUE: usize = 1024;
const MEMBERS: usize = 10_000;
const MEMBERS_OF_USER: usize = 64;
const LOOK_EVERY: Duration = Duration::from_secs(1);
