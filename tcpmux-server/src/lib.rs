//! The devices that are connected to this process: their sessions, and opening streams on them.
//!
//! A connection whose TLS handshake is done comes in by [`TunnelServer::serve`]; who it is stands in
//! its certificate alone. Others reach a device through the [`Dialer`](tcpmux_proto::Dialer) that
//! [`TunnelServer`] is. This room touches no SQL and looks into no stream.
//!
//! - `accept`: from a connection to a session; `refusal`: or why not
//! - `sessions`: who is connected here; the newest generation is served
//! - `presented`: whom a certificate names
//! - `converse`: what is said on a session's control stream, and how it ends
//! - `open`: one stream to a service of a device
//! - `clones`: one certificate in two places
//! - `keeping`: what passing time does to sessions (expiry, proof of life)
//! - `revoked`: orders to close
//! - `drain`: going away politely

mod accept;
mod clones;
mod converse;
mod counts;
mod drain;
mod elsewhere;
mod keeping;
mod open;
mod pending;
mod presented;
mod refusal;
mod revoked;
mod sessions;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use ca::DeviceNaming;
use registry::{Admission, Registry};
use runtime::{Clock, Tasks};
use tcpmux_proto::Settings;
use tokio::sync::{Semaphore, watch};

/// Limits and times of the tunnel server; [`Config::default`] is what the contract says.
#[derive(Debug, Clone)]
pub struct Config {
    /// A device that was silent for this long is asked for a sign of life.
    pub heartbeat: Duration,
    /// A device that was silent for this long is gone.
    pub silent_limit: Duration,
    /// From the end of the TLS handshake to a complete hello, and again to a welcome that left.
    pub hello_deadline: Duration,
    /// The longest that a device may take to answer an opened stream; shorter wishes of the opener stand.
    pub open_deadline: Duration,
    /// Sessions at one time.
    pub max_sessions: u32,
    /// Streams open in one session at one time.
    pub streams_per_session: usize,
    /// Streams of one session that wait for the device's answer, by service.
    pub pending_opens_per_service: usize,
    /// How long one more may wait for its turn before it is refused as busy.
    pub longest_queueing: Duration,
    /// Bytes that all streams together may hold because somebody does not read; beyond it no stream is opened.
    pub held_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(20),
            silent_limit: Duration::from_secs(28),
            hello_deadline: Duration::from_secs(10),
            open_deadline: Duration::from_secs(5),
            max_sessions: 100_000,
            streams_per_session: 512,
            pending_opens_per_service: 64,
            longest_queueing: Duration::from_secs(2),
            held_bytes: 1 << 30,
        }
    }
}

/// Holds the sessions of the devices that are connected to this process.
#[derive(Debug)]
pub struct TunnelServer {
    config: Config,
    registry: Registry,
    admission: Arc<dyn Admission>,
    naming: DeviceNaming,
    clock: Clock,
    tasks: Tasks,
    sessions: sessions::Sessions,
    /// One permit for each session, from before its hello to its end.
    seats: Arc<Semaphore>,
    /// One permit for each connection that waits to be told that there is no seat.
    turning_away: Arc<Semaphore>,
    draining: watch::Sender<Option<drain::Plan>>,
    /// What all streams held when it was last looked.
    held: AtomicUsize,
}

impl TunnelServer {
    /// Begins to serve: sessions come by [`TunnelServer::serve`], orders to close from the registry.
    ///
    /// `admission` decides by fingerprint, `naming` reads the device out of a certificate.
    pub fn start(
        config: Config,
        registry: Registry,
        admission: Arc<dyn Admission>,
        naming: DeviceNaming,
        clock: Clock,
        tasks: Tasks,
    ) -> Arc<Self> {
        let server = Arc::new(Self {
            seats: Arc::new(Semaphore::new(usize::try_from(config.max_sessions).unwrap_or(usize::MAX))),
            turning_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)),
            sessions: sessions::Sessions::default(),
            draining: watch::Sender::new(None),
            held: AtomicUsize::new(0),
            config,
            registry,
            admission,
            naming,
            clock,
            tasks,
        });
        // The queue of orders stands before the first session can.
        let orders = server.registry.revocation_orders();
        server.tasks.spawn(Arc::clone(&server).carry_out_revocations(orders));
        let superseded = server.registry.superseded();
        server.tasks.spawn(Arc::clone(&server).give_way(superseded));
        server.tasks.spawn(Arc::clone(&server).keep_sessions());
        server
    }

    /// How many devices are connected to this process.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many streams are open to the devices connected to this process.
    pub fn stream_count(&self) -> usize {
        self.sessions.stream_count()
    }

    fn settings(&self) -> Settings {
        Settings {
            heartbeat: self.config.heartbeat,
            silence: self.config.silent_limit,
            open_streams: self.config.streams_per_session,
            ..Settings::default()
        }
    }
}

/// A full house still tells this many devices at a time when to come again; others find the door shut.
const TURNED_AWAY_AT_ONCE: usize = 256;
