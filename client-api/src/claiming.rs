//! Keeping claim codes and owners in step with what devices show.
//!
//! A device that connects without an owner gets a code: random, its digest stored first, then handed to the daemon,
//! then noted as delivered. Nothing here relies on an event having come, or having come once: each look compares what
//! the rows say with what the device says it shows, and does the one thing that is missing. A look whose call fails is
//! repeated a few times; after that the device's next connection brings one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use model::{ClaimCode, ClaimDigest, DeviceRef, Event};
use registry::Registry;
use runtime::{Clock, Tasks, digest, random};
use store::{Store, StoreError};
use tcpmux_proto::{OpenError, agent::AgentError, agent::AgentRequest};
use tokio::sync::{
    Notify, Semaphore,
    broadcast::{Receiver, error::RecvError},
};

use crate::agent_calls::{AgentCalls, NoAnswer};

/// Looks after the claim codes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Claiming(Arc<Inner>);

struct Inner {
    store: Store,
    registry: Registry,
    clock: Clock,
    tasks: Tasks,
    calls: Arc<AgentCalls>,
    agenda: Mutex<Agenda>,
    wake: Notify,
}

/// What to look at. Bounded: past [`MOST_WAITING`] devices the whole fleet is gone through instead.
#[derive(Default)]
struct Agenda {
    order: VecDeque<DeviceRef>,
    looks: HashMap<DeviceRef, Look>,
    running: HashSet<DeviceRef>,
    overflowed: bool,
}

/// How to look.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    /// The device is asked what it shows; what it said when it connected may be old.
    anew: bool,
    /// It was claimed just now: whatever it shows is to go.
    claimed: bool,
    /// How often this was tried.
    tried: u32,
}

/// Why a look has to be repeated.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Daemon(#[from] NoAnswer),
}

impl Claiming {
    /// Begins: goes through the devices that are connected already, and hears of those that come.
    pub(crate) fn start(
        store: Store,
        registry: Registry,
        clock: Clock,
        tasks: &Tasks,
        calls: Arc<AgentCalls>,
    ) -> Self {
        let events = registry.subscribe();
        let (agenda, wake) = (Mutex::default(), Notify::new());
        let inner = Inner { store, registry, clock, tasks: tasks.clone(), calls, agenda, wake };
        let claiming = Self(Arc::new(inner));
        tasks.spawn(claiming.clone().hear(events));
        tasks.spawn(claiming.clone().work());
        claiming
    }

    /// A device's ownership may have changed: it is asked what it shows.
    pub(crate) fn look_anew(&self, device: &DeviceRef) {
        self.0.want(device, Look { anew: true, ..Look::default() });
    }

    /// A device was claimed: its code is to go from its screen.
    pub(crate) fn was_claimed(&self, device: &DeviceRef) {
        self.0.want(device, Look { claimed: true, ..Look::default() });
    }

    async fn hear(self, mut events: Receiver<Event>) {
        self.go_through_all().await;
        loop {
            match events.recv().await {
                Ok(Event::DeviceConnected { device, .. }) => self.0.want(&device, Look::default()),
                Ok(Event::DeviceClaimed { device, .. }) => self.was_claimed(&device),
                Ok(Event::DeviceReleased { device, .. }) => self.look_anew(&device),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::info!(missed, "events were missed: looking at every connected device");
                    self.go_through_all().await;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Puts every connected device on the agenda.
    async fn go_through_all(&self) {
        if let Err(error) = self.try_go_through_all().await {
            tracing::warn!(%error, "connected devices were not gone through; each is when it connects again");
        }
    }

    async fn try_go_through_all(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        for tenant in inner.store.tenants().await? {
            let mut after = None;
            loop {
                let rows = inner.store.devices(&tenant.name, after.as_ref(), AT_ONCE_FROM_THE_STORE).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.device.device.clone());
                for row in rows {
                    if inner.registry.lookup(&row.device).await.is_some() {
                        inner.want(&row.device, Look::default());
                    }
                }
            }
        }
        Ok(())
    }

    /// Does what is on the agenda, much of it at the same time: the store joins the writes of many in one commit.
    async fn work(self) {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let Some((device, look)) = self.0.next() else {
                drop(turn);
                if self.0.take_overflow() {
                    self.go_through_all().await;
                } else {
                    self.0.wake.notified().await;
                }
                continue;
            };
            let claiming = self.clone();
            self.0.tasks.spawn(async move {
                let outcome = claiming.0.look(&device, look).await;
                drop(turn);
                claiming.0.done(&device);
                if let Err(error) = outcome {
                    claiming.again_later(device, look, &error).await;
                }
            });
        }
    }

    async fn again_later(&self, device: DeviceRef, look: Look, error: &Unfinished) {
        // A device that is not there says itself when it comes.
        if matches!(error, Unfinished::Daemon(NoAnswer::Call(AgentError::Open(OpenError::Offline)))) {
            return;
        }
        let Some(delay) = REPEATS.get(look.tried as usize) else {
            tracing::warn!(%device, %error, "its claim code could not be brought in order; its next connection will");
            return;
        };
        tracing::debug!(%device, %error, delay_s = delay.as_secs(), "looking at its claim code again later");
        tokio::time::sleep(*delay).await;
        self.0.want(&device, Look { tried: look.tried + 1, anew: true, ..look });
    }
}

impl Inner {
    fn want(&self, device: &DeviceRef, look: Look) {
        let mut agenda = self.agenda();
        if let Some(waiting) = agenda.looks.get_mut(device) {
            waiting.anew |= look.anew;
            waiting.claimed |= look.claimed;
            return;
        }
        if agenda.looks.len() >= MOST_WAITING {
            agenda.overflowed = true;
            return;
        }
        agenda.looks.insert(device.clone(), look);
        // One that is looked at now comes up again when that is over.
        if !agenda.running.contains(device) {
            agenda.order.push_back(device.clone());
            self.wake.notify_one();
        }
    }

    fn next(&self) -> Option<(DeviceRef, Look)> {
        let mut agenda = self.agenda();
        let device = agenda.order.pop_front()?;
        let look = agenda.looks.remove(&device)?;
        agenda.running.insert(device.clone());
        Some((device, look))
    }

    fn done(&self, device: &DeviceRef) {
        let mut agenda = self.agenda();
        agenda.running.remove(device);
        if agenda.looks.contains_key(device) {
            agenda.order.push_back(device.clone());
            self.wake.notify_one();
        }
    }

    fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.agenda().overflowed)
    }

    fn agenda(&self) -> std::sync::MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is missing for this device, if anything is.
    async fn look(&self, device: &DeviceRef, look: Look) -> Result<(), Unfinished> {
        let Some(state) = self.store.claim_state(device, self.clock.now()).await? else { return Ok(()) };
        let session = self.registry.lookup(device).await;
        // Without a record what the device said is not known; it may be there all the same.
        let told = session.map(|session| session.claim_digest).filter(|_| !look.anew);
        if state.owned {
            let shows = match told {
                _ if look.claimed => true,
                Some(told) => told.is_some(),
                None => self.calls.shown_code(device, CALL_LIMIT).await?.is_some(),
            };
            if shows {
                self.calls.order(device, AgentRequest::ForgetClaimCode, CALL_LIMIT).await?;
                tracing::info!(%device, "the device has an owner and shows no code any more");
            }
            return Ok(());
        }
        let stored = state.code.map(|code| code.digest);
        if let Some(told) = told.flatten()
            && stored == Some(told)
        {
            return self.note_shown(device, told).await;
        }
        // The code may have reached the device since it connected.
        let shown = self.calls.shown_code(device, CALL_LIMIT).await?;
        match shown {
            Some(shown) if stored == Some(shown) => self.note_shown(device, shown).await,
            _ => self.hand_over_a_code(device, stored).await,
        }
    }

    async fn hand_over_a_code(
        &self,
        device: &DeviceRef,
        stored: Option<ClaimDigest>,
    ) -> Result<(), Unfinished> {
        let code = ClaimCode::from_random(random::bytes());
        let digest = digest_of(&code);
        if !self.store.put_claim_code(device, stored, digest, self.clock.now()).await? {
            // Claimed, removed or looked at from elsewhere in this moment.
            tracing::debug!(%device, "no code of ours is wanted any more");
            return Ok(());
        }
        self.calls.order(device, AgentRequest::ClaimCode { code }, CALL_LIMIT).await?;
        tracing::info!(%device, "the device shows a claim code");
        self.note_shown(device, digest).await
    }

    async fn note_shown(&self, device: &DeviceRef, digest: ClaimDigest) -> Result<(), Unfinished> {
        self.store.claim_code_delivered(device, digest, self.clock.now()).await?;
        Ok(())
    }
}

/// What is kept of a code.
pub(crate) fn digest_of(code: &ClaimCode) -> ClaimDigest {
    ClaimDigest(digest::of(code.letters()))
}

const CALL_LIMIT: Duration = Duration::from_secs(12);
/// Devices that are looked at together.
const AT_ONCE: usize = 64;
const AT_ONCE_FROM_THE_STORE: u32 = 256;
const MOST_WAITING: usize = 100_000;
const REPEATS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];
