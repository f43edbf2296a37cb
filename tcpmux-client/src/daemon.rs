//! The daemon: keeps one session with the cloud for as long as the process lives.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use model::{DisconnectCause, Timestamp};
use runtime::{Backoff, Clock, Tasks};
use tokio::sync::Notify;

use crate::{
    ClaimFile, Identity, ServerAddress, Services, StateDirectory, StateError, Status, TrustedTime, WayOut,
    agent::Agent,
    build_time,
    connect::{ConnectError, Connector},
    housekeeping::Housekeeping,
    local_api::{self, Local},
    session::{Leave, Session},
    spool::SpoolKeeper,
    state::{Lock, Right},
    status::Board,
    uplink::{TokenHolder, Uplink},
};

/// What a daemon needs to know.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// The state directory.
    pub state: StateDirectory,
    /// A certificate that the operator provides, instead of the one in the state directory.
    pub provided: Option<ProvidedIdentity>,
    /// Where the cloud is, if it is not where the device enrolled.
    pub server: Option<ServerAddress>,
    /// What can be reached.
    pub services: Services,
    /// The way out of this machine.
    pub way_out: WayOut,
    /// Where local programs ask, if they may.
    pub local_api: Option<SocketAddr>,
    /// Where the claim code is shown while nobody owns the device.
    pub claim: ClaimFile,
    /// How many bytes of reports may wait for the cloud.
    pub spool_bytes: u64,
    /// How often the daemon looks whether a renewal is due.
    pub renewal_check: Duration,
    /// A time that has certainly passed.
    pub time_floor: Timestamp,
}

/// The files of a certificate of the operator's own CA. It is not renewed from here.
#[derive(Debug, Clone)]
pub struct ProvidedIdentity {
    /// The private key, PEM, readable by the owner alone.
    pub key: PathBuf,
    /// The certificate and what leads to the device CA, PEM, leaf first.
    pub certificate: PathBuf,
    /// What the cloud's certificate has to lead to, PEM.
    pub ca: PathBuf,
}

impl DaemonConfig {
    /// The defaults: the state directory's identity, no proxy, no local API.
    pub fn new(state: StateDirectory, services: Services) -> Self {
        Self {
            claim: ClaimFile::at(state.path().join(CLAIM_CODE)),
            state,
            provided: None,
            server: None,
            services,
            way_out: WayOut::default(),
            local_api: None,
            spool_bytes: SPOOL_BYTES,
            renewal_check: Duration::from_secs(30),
            time_floor: build_time(),
        }
    }

    /// Reads the identity to use.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let mut identity = match &self.provided {
            None => self.state.identity()?,
            Some(files) => {
                let server = self.server.clone().ok_or_else(|| {
                    StateError::broken(&files.certificate, "a provided certificate needs `server` beside it")
                })?;
                Identity::read(server, &files.key, &files.certificate, &files.ca)?
            }
        };
        if let Some(server) = &self.server {
            identity.server = server.clone();
        }
        Ok(identity)
    }

    /// The time to check certificates at, with what earlier runs learned.
    pub fn trusted_time(&self, clock: Clock) -> TrustedTime {
        let time = TrustedTime::new(clock, self.time_floor);
        if let Some(proven) = self.state.proven_time() {
            time.prove(proven);
        }
        time
    }
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    board: Arc<Board>,
    local_api: Option<SocketAddr>,
    tasks: Tasks,
}

impl Daemon {
    /// Starts it in this process; it runs in `tasks` until they drain.
    ///
    /// # Errors
    /// If there is no usable identity, or another daemon runs on the same state directory. A cloud that
    /// cannot be reached is no error: the daemon never gives up.
    pub async fn start(config: DaemonConfig, clock: Clock, tasks: Tasks) -> Result<Self, StateError> {
        let identity = config.identity()?;
        config.state.prepare()?;
        let lock = config.state.lock(Right::Run)?;
        let time = config.trusted_time(clock);
        let services = Arc::new(config.services.clone());
        let renews = config.provided.is_none();
        let board = Arc::new(Board::new(&identity, renews, &services, time.clone()));
        let tokens = Arc::new(TokenHolder::default());
        let spool = open_spool(&config, &tasks).await;
        if let Some(spool) = spool.clone() {
            board.show_spool(spool.clone());
            let (config, time, tokens) = (config.clone(), time.clone(), Arc::clone(&tokens));
            let uplink = Uplink { config, time, spool, tokens };
            let draining = tasks.draining();
            tasks.spawn(async move { draining.run_until_cancelled(uplink.run()).await });
        }
        let local_api = match config.local_api {
            Some(address) => {
                let local = Local { board: Arc::clone(&board), spool, time: time.clone() };
                local_api::start(address, local, &services, &tasks).await
            }
            None => None,
        };
        let agent = Agent::new(config.claim.clone(), Arc::clone(&board), tokens, time.clone());
        let changed = Arc::new(Notify::new());
        let connector = Connector {
            way_out: config.way_out.clone(),
            time: time.clone(),
            services,
            agent,
            tasks: tasks.clone(),
            boot_id: model::hex(&runtime::random::bytes::<16>()),
        };
        if renews {
            let keeper =
                Housekeeping::new(config.clone(), &identity, time, Arc::clone(&board), Arc::clone(&changed));
            let draining = tasks.draining();
            tasks.spawn(async move { draining.run_until_cancelled(keeper.run()).await });
        }
        let supervisor = Supervisor { config, connector, board: Arc::clone(&board), changed, _lock: lock };
        let draining = tasks.draining();
        tasks.spawn(async move { draining.run_until_cancelled(supervisor.run()).await });
        Ok(Self { board, local_api, tasks })
    }

    /// What the daemon knows of itself.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// Waits until the status is as wanted.
    pub async fn wait_for(&self, wanted: impl FnMut(&Status) -> bool) -> Status {
        self.board.wait_for(wanted).await
    }

    /// Where local programs ask, if they can.
    pub fn local_api(&self) -> Option<SocketAddr> {
        self.local_api
    }

    /// Takes no new streams, lets live ones finish, ends the session. False if some were cut at the limit.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.tasks.begin_drain();
        let finished = self.tasks.wait(limit).await;
        self.tasks.end();
        finished
    }
}

/// The queue for the cloud. Without a local API nothing comes in; what is left of earlier runs still leaves.
async fn open_spool(config: &DaemonConfig, tasks: &Tasks) -> Option<SpoolKeeper> {
    let directory = config.state.path().join(SPOOL);
    if config.local_api.is_none() && !directory.exists() {
        return None;
    }
    match SpoolKeeper::open(directory.clone(), config.spool_bytes, tasks).await {
        Ok(spool) => Some(spool),
        Err(error) => {
            tracing::error!(directory = %directory.display(), %error, "no reports can be kept for the cloud");
            None
        }
    }
}

/// Keeps one session: at most one that is served, one that is made, and earlier ones that only finish.
struct Supervisor {
    config: DaemonConfig,
    connector: Connector,
    board: Arc<Board>,
    /// The identity is another one now.
    changed: Arc<Notify>,
    _lock: Lock,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut served: Option<Session> = None;
        loop {
            match self.connect_once().await {
                Ok(session) => {
                    backoff.reset();
                    if let Some(before) = served.replace(session) {
                        before.retire();
                    }
                }
                Err((why, asked)) => {
                    let asked = asked.map(|asked| within_reason(asked).max(SHORTEST_DELAY));
                    let delay = asked.unwrap_or_else(|| backoff.next_delay());
                    tracing::warn!(error = %why, delay_s = delay.as_secs_f32(), "not connected");
                    self.note_failure(served.as_ref(), why);
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.changed.notified() => {}
                    }
                    continue;
                }
            }
            if let Some(session) = &mut served {
                let delay = self.until_another_is_needed(session, &mut backoff).await;
                tokio::time::sleep(delay).await;
            }
        }
    }

    async fn connect_once(&self) -> Result<Session, (String, Option<Duration>)> {
        // Read anew each time: a renewal or a new enrolment may have replaced it.
        let identity = self.config.identity().map_err(|error| (error.to_string(), None))?;
        self.board.identity(&identity, self.config.provided.is_none());
        let greeted = self
            .connector
            .connect(&identity)
            .await
            .map_err(|error: ConnectError| (error.to_string(), error.retry_after()))?;
        let welcome = greeted.welcome.clone();
        tracing::info!(
            server = %identity.server, session = welcome.session.as_str(), generation = welcome.generation.0,
            "connected"
        );
        let Connector { services, agent, tasks, .. } = &self.connector;
        let session = Session::start(
            greeted,
            identity.certificate.fingerprint,
            Arc::clone(services),
            agent.clone(),
            tasks,
        );
        self.board.connected(welcome.session, welcome.generation, session.handle.clone());
        Ok(session)
    }

    /// Waits for a reason to connect anew; tells how long to wait before.
    async fn until_another_is_needed(&self, session: &mut Session, backoff: &mut Backoff) -> Duration {
        let (handle, certificate) = (session.handle.clone(), session.certificate);
        let renewed = async {
            let another = |identity: Identity| identity.certificate.fingerprint != certificate;
            while !self.config.identity().is_ok_and(another) {
                self.changed.notified().await;
            }
            tracing::info!("the identity changed: connecting with the new one when idle");
            // Live streams are worth a wait, but not for ever.
            drop(tokio::time::timeout(LONGEST_IDLE_WAIT, handle.idle()).await);
        };
        let leave = tokio::select! {
            leave = session.leave() => leave,
            () = renewed => return Duration::ZERO,
        };
        match leave {
            Leave::Drain(delay) => {
                tracing::info!(delay_s = delay.as_secs_f32(), "the cloud asks to connect elsewhere");
                within_reason(delay)
            }
            Leave::Unregistered => {
                tracing::warn!("the cloud does not find this session: connecting anew");
                backoff.next_delay()
            }
            Leave::Ended(cause) => {
                let delay = delay_after(cause, backoff);
                tracing::warn!(cause = cause.as_str(), delay_s = delay.as_secs_f32(), "disconnected");
                let hint = if cause == DisconnectCause::Replaced { CLONE_HINT } else { "" };
                self.board.failed(format!("the session ended: {}{hint}", cause.as_str()));
                delay
            }
        }
    }

    fn note_failure(&self, served: Option<&Session>, why: String) {
        // A session that drains or waits for its successor still serves.
        match served {
            Some(session) if !session.is_over() => self.board.attempt_failed(why),
            _ => self.board.failed(why),
        }
    }
}

pub(crate) fn delay_after(cause: DisconnectCause, backoff: &mut Backoff) -> Duration {
    match cause {
        // Somebody has the same certificate, perhaps a clone of this device. Fighting for the place would
        // help neither.
        DisconnectCause::Replaced => REPLACED_DELAY + REPLACED_DELAY.mul_f64(fastrand::f64()),
        _ => backoff.next_delay(),
    }
}

/// A server may ask for a delay, but cannot send a device away for good.
fn within_reason(asked: Duration) -> Duration {
    asked.min(LONGEST_ASKED)
}

/// The claim code's file, in the state directory unless the configuration names another place.
const CLAIM_CODE: &str = "claim_code";
const SPOOL: &str = "spool";
const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
const CLONE_HINT: &str = " by another with the same certificate; was this device copied?";
const SHORTEST_DELAY: Duration = Duration::from_millis(100);
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const LONGEST_ASKED: Duration = Duration::from_secs(600);
const REPLACED_DELAY: Duration = Duration::from_secs(30);
const LONGEST_IDLE_WAIT: Duration = Duration::from_secs(600);
