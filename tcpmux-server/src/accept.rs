//! From a connection to a session, or a named refusal.
//!
//! Who it is stands in the certificate alone; the hello only says what the device is like. The order
//! matters: the certificate is admitted, the registry gives a generation, the device is welcomed, and
//! when the session takes its place in the table the certificate is admitted once more, under the
//! lock that an order to close needs. So a revocation cannot slip through between the two.

use std::{net::SocketAddr, sync::Arc};

use ca::IdentityError;
use model::{ClaimDigest, DisconnectCause, Event, Generation, SessionId};
use registry::{NotAdmitted, Presented, SessionRecord};
use runtime::{Records, records::Peer};
use tcpmux_proto::{
    Buffered, CloudControl, CloudHandshake, CloudMessage, Ended, GreetError, Greeting, Hello, Link, Replaced,
    SessionHandle, SessionLimits, Welcome,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    TunnelServer,
    clones::Verdict,
    converse::{self, Conversation},
    counts,
    pending::Pending,
    presented::presented,
    refusal::{NoSession, check, note},
    sessions::{Live, NotEntered, Order},
};

impl TunnelServer {
    /// Takes over a connection whose TLS handshake is done.
    ///
    /// Returns at once: the session runs in tasks of its own, so that what the handshake needed can be
    /// freed.
    pub fn serve<IO>(self: &Arc<Self>, records: Records<IO>, device: &Peer, peer: SocketAddr)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if device.alpn.as_deref() != Some(tcpmux_proto::ALPN) {
            return note(&NoSession::Protocol, None, peer);
        }
        let Some(certificate) = device.certificates.first() else {
            return note(&NoSession::NoCertificate, None, peer);
        };
        self.receive(records, presented(&self.naming, certificate), peer);
    }

    /// The same for a connection on which TLS has ended before, with the client certificate (DER) that
    /// has been verified there.
    pub fn serve_verified<IO>(self: &Arc<Self>, connection: IO, certificate: &[u8], peer: SocketAddr)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.receive(Buffered::new(connection), presented(&self.naming, certificate), peer);
    }

    fn receive<IO>(self: &Arc<Self>, io: IO, presented: Result<Presented, IdentityError>, peer: SocketAddr)
    where
        IO: Link + 'static,
    {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok();
        let has_seat = seat.is_some();
        let Some(permit) = seat.or_else(|| Arc::clone(&self.turning_away).try_acquire_owned().ok()) else {
            return note(&NoSession::Full, presented.ok().as_ref(), peer);
        };
        let (driver, handshake) = tcpmux_proto::cloud(io, self.settings());
        let driver = self.tasks.spawn(driver);
        let arrival = Arrival { presented, peer, has_seat, permit };
        self.tasks.spawn(Arc::clone(self).run_session(arrival, handshake, driver));
    }

    async fn run_session(
        self: Arc<Self>,
        arrival: Arrival,
        handshake: CloudHandshake,
        driver: JoinHandle<Option<Ended>>,
    ) {
        let peer = arrival.peer;
        // What is over before the session is held, or after, is boxed here and below: an idle session
        // keeps only what it needs to wait.
        let (session, permit) = match Box::pin(self.begin_session(arrival, handshake)).await {
            Ok(begun) => begun,
            Err((no, presented)) => {
                self.raise_alarm(&no, presented.as_ref());
                return note(&no, presented.as_ref(), peer);
            }
        };
        self.hold_session(session, driver).await;
        drop(permit);
    }

    async fn begin_session(
        self: &Arc<Self>,
        arrival: Arrival,
        handshake: CloudHandshake,
    ) -> Result<(Session, OwnedSemaphorePermit), (NoSession, Option<Presented>)> {
        let limit = self.config.hello_deadline;
        let greeting = match handshake.hello(limit).await {
            Ok(greeting) => greeting,
            Err(error) => return Err((NoSession::Hello(error), arrival.presented.ok())),
        };
        let hello = greeting.hello();
        let admitted = match &arrival.presented {
            Err(error) => Err(NoSession::Identity(error.clone())),
            Ok(_) if self.draining.borrow().is_some() => Err(NoSession::Draining),
            Ok(_) if !arrival.has_seat => Err(NoSession::Full),
            Ok(presented) => self.decide(presented, hello).await,
        };
        let presented = arrival.presented.ok();
        if let Err(no) = admitted {
            // A device that does not read its refusal gets none.
            let _ = timeout(limit, greeting.refuse(no.answer())).await;
            return Err((no, presented));
        }
        let presented = presented.expect("an identity that cannot be read was refused");
        match self.take_place(presented.clone(), greeting, arrival.peer).await {
            Ok(session) => Ok((session, arrival.permit)),
            Err(no) => Err((no, Some(presented))),
        }
    }

    /// Tells those who audit that a certificate whose chain verified was not admitted.
    fn raise_alarm(&self, no: &NoSession, presented: Option<&Presented>) {
        if let (NoSession::Admission(reason), Some(presented)) = (no, presented)
            && *reason != NotAdmitted::Unread
        {
            self.registry.publish(Event::DeviceRefused {
                device: presented.device.clone(),
                certificate: presented.fingerprint,
                reason: reason.to_string(),
                at: self.clock.now(),
            });
        }
    }

    /// Whether a device with this certificate and hello may have a session now.
    async fn decide(&self, presented: &Presented, hello: &Hello) -> Result<(), NoSession> {
        // A row that does not come in time is not awaited: the device is told to come again.
        let (within, now) = (self.config.hello_deadline, || self.clock.now());
        self.admission.admit_or_read(presented, within, now).await.map_err(NoSession::Admission)?;
        check(hello)?;
        let verdict = self.sessions.judge(&presented.device, &hello.boot_id, Instant::now());
        if matches!(verdict, Verdict::DampAndTell | Verdict::AllowAndTell) {
            tracing::warn!(
                device = %presented.device,
                certificate = %presented.fingerprint,
                kept = verdict == Verdict::DampAndTell,
                "one certificate is used from two places"
            );
            let at = self.clock.now();
            self.registry.publish(Event::CloneSuspected { device: presented.device.clone(), at });
        }
        match verdict {
            Verdict::Allow | Verdict::AllowAndTell => Ok(()),
            Verdict::Damp | Verdict::DampAndTell => Err(NoSession::Clone),
        }
    }

    /// Welcomes the device and puts its session into the table.
    async fn take_place(
        &self,
        presented: Presented,
        greeting: Greeting,
        peer: SocketAddr,
    ) -> Result<Session, NoSession> {
        let device = presented.device.clone();
        let id = SessionId::from_random(runtime::random::bytes());
        let record = self.record(&presented, &id, greeting.hello());
        let generation = self.registry.connect(record).await.generation;
        let welcome = Welcome {
            session: id.clone(),
            generation,
            features: Vec::new(),
            heartbeat: self.config.heartbeat,
            limits: SessionLimits {
                streams: u32::try_from(self.config.streams_per_session).unwrap_or(u32::MAX),
            },
        };
        let welcomed = timeout(self.config.hello_deadline, greeting.welcome(welcome)).await;
        let (handle, mut control) = match welcomed.unwrap_or(Err(GreetError::TimedOut)) {
            Ok(welcomed) => welcomed,
            Err(error) => {
                self.give_up_place(&device, generation).await;
                return Err(NoSession::Hello(error));
            }
        };
        let (order, orders) = oneshot::channel();
        let live = Live {
            generation,
            presented,
            handle: handle.clone(),
            pending: Arc::new(Pending::new(
                self.config.pending_opens_per_service,
                self.config.longest_queueing,
            )),
            order,
            flips: None,
            told: Instant::now(),
        };
        let now = self.clock.now();
        let entered = self
            .sessions
            .enter(live, Instant::now(), |presented| self.admission.admit(presented, now).map(drop));
        // The registry has the last word: a newer session may have come and gone while this one was
        // being welcomed, and then no row speaks of this one.
        let entered = match entered {
            Ok(()) => self.confirm(&device, generation).await,
            refused => refused,
        };
        if let Err(not_entered) = entered {
            self.give_up_place(&device, generation).await;
            dismiss(not_entered, &handle, &mut control).await;
            return Err(match not_entered {
                NotEntered::Newer(_) => NoSession::Overtaken,
                NotEntered::NotAdmitted(no) => NoSession::Admission(no),
            });
        }
        tracing::info!(%device, session = %id, %generation, %peer, "device connected");
        let event = Event::DeviceConnected {
            device: device.clone(),
            session: id.clone(),
            generation,
            node: self.registry.node().clone(),
            at: now,
        };
        self.registry.publish(event);
        Ok(Session { id, device, generation, handle, control, orders })
    }

    /// Whether the registry still has this session; if not, it is taken out of the table again.
    async fn confirm(&self, device: &model::DeviceRef, generation: Generation) -> Result<(), NotEntered> {
        let standing = self.registry.lookup(device).await.map(|record| record.generation);
        if standing == Some(generation) {
            return Ok(());
        }
        self.sessions.leave(device, generation);
        Err(NotEntered::Newer(standing.unwrap_or(generation)))
    }

    /// Undoes [`Registry::connect`](registry::Registry::connect). The older session has lost its place
    /// there already; it is told, so that the device comes again.
    async fn give_up_place(&self, device: &model::DeviceRef, generation: Generation) {
        self.registry.disconnect(device, generation).await;
        if let Some(older) = self.sessions.take_if(device, |live| live.generation < generation) {
            let _ = older.order.send(Order::Replaced(generation));
        }
    }

    /// Serves a session until it ends, then removes what is left of it.
    async fn hold_session(self: Arc<Self>, session: Session, driver: JoinHandle<Option<Ended>>) {
        let since = Instant::now();
        let Session { id, device, generation, handle, control, orders } = session;
        let conversation = Conversation { server: &self, device: &device, generation, handle: &handle };
        let cause = conversation.hold(control, orders).await;
        self.sessions.leave(&device, generation);
        self.registry.disconnect(&device, generation).await;
        let at = self.clock.now();
        self.registry.publish(Event::DeviceDisconnected {
            device: device.clone(),
            session: id.clone(),
            generation,
            cause,
            at,
        });
        counts::session_ended(cause);
        drop(handle);
        let detail = driver.await.ok().flatten().and_then(|ended| ended.detail);
        tracing::info!(
            %device,
            session = %id,
            %generation,
            cause = cause.as_str(),
            detail,
            seconds = since.elapsed().as_secs(),
            "device disconnected"
        );
    }

    fn record(&self, presented: &Presented, id: &SessionId, hello: &Hello) -> SessionRecord {
        let now = self.clock.now();
        let viewers = hello.services.iter().filter(|service| service.viewer_websocket);
        SessionRecord {
            device: presented.device.clone(),
            session: id.clone(),
            generation: Generation::default(),
            node: self.registry.node().clone(),
            certificate: presented.fingerprint,
            boot_id: hello.boot_id.clone(),
            services: hello.services.iter().map(|service| service.name.clone()).collect(),
            viewer_websockets: viewers.map(|service| service.name.clone()).collect(),
            claim_digest: hello.claim_digest.map(ClaimDigest),
            since: now,
            verified_at: now,
        }
    }
}

/// A connection that came in.
struct Arrival {
    presented: Result<Presented, IdentityError>,
    peer: SocketAddr,
    /// Whether `permit` is for a session, or only for being turned away.
    has_seat: bool,
    permit: OwnedSemaphorePermit,
}

/// A session that has its place.
struct Session {
    id: SessionId,
    device: model::DeviceRef,
    generation: Generation,
    handle: SessionHandle,
    control: CloudControl,
    orders: oneshot::Receiver<Order>,
}

/// Ends a session that was welcomed and then lost its place before it had it.
async fn dismiss(not_entered: NotEntered, handle: &SessionHandle, control: &mut CloudControl) {
    let (message, cause) = match not_entered {
        NotEntered::Newer(generation) => {
            (CloudMessage::Replaced(Replaced { generation }), DisconnectCause::Replaced)
        }
        NotEntered::NotAdmitted(no) => {
            let cause = converse::cause_of(no);
            (converse::goodbye(cause), cause)
        }
    };
    converse::part(handle, control, &message, cause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_idle_session_keeps_in_its_task_is_small() {
        let registry = registry::Registry::in_process(model::NodeId::from_random([1; 16]), 1);
        let tasks = runtime::Tasks::new();
        let server = TunnelServer::start(
            crate::Config::default(),
            registry.clone(),
            registry.certificates().clone(),
            ca::DeviceNaming::Deployment("abcd2345.tcpmux.internal".parse().unwrap()),
            runtime::Clock::system(),
            tasks.clone(),
        );
        let (io, _device) = tokio::io::duplex(64);
        let (driver, handshake) = tcpmux_proto::cloud(Buffered::new(io), server.settings());
        let arrival = Arrival {
            presented: Err(IdentityError::Name),
            peer: "192.0.2.7:40000".parse().unwrap(),
            has_seat: true,
            permit: Arc::clone(&server.seats).try_acquire_owned().unwrap(),
        };
        let session = Arc::clone(&server).run_session(arrival, handshake, tasks.spawn(driver));
        assert!(size_of_val(&session) <= 1536, "{} bytes", size_of_val(&session));
        assert!(size_of::<Live>() <= 160, "{} bytes", size_of::<Live>());
    }
}
