//! A tunnel server and devices for it.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use ca::DeviceNaming;
use model::{CertificateStatus, DeviceRef, DisconnectCause, Event, Generation, NodeId, Target};
use registry::{CertificateEntry, Receipt, Registry, RevocationNotice};
use runtime::{Clock, ManualClock, Tasks};
use tcpmux_proto::{
    Buffered, CloudMessage, DeviceHandshake, Dialer, GreetError, Greeted, Hello, OpenError, Refused,
    RefusedReason, Settings, StreamHeader, StreamKind, TunnelStream,
};
use tcpmux_server::{Config, TunnelServer};
use tokio::{io::DuplexStream, sync::broadcast};

use crate::certificates::{Authority, DOMAIN, Issued, START};

/// A tunnel server with everything around it in memory.
pub(crate) struct Cloud {
    pub(crate) server: Arc<TunnelServer>,
    pub(crate) registry: Registry,
    pub(crate) authority: Authority,
    pub(crate) hand: ManualClock,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    events: tokio::sync::Mutex<broadcast::Receiver<Event>>,
}

impl Cloud {
    pub(crate) fn start() -> Self {
        Self::start_with(Config::default())
    }

    pub(crate) fn start_with(config: Config) -> Self {
        let registry = Registry::in_process(NodeId::from_random([7; 16]), 1);
        let admission = registry.certificates().clone();
        Self::start_as(config, registry, admission, DeviceNaming::Deployment(DOMAIN.parse().unwrap()))
    }

    pub(crate) fn start_as(
        config: Config,
        registry: Registry,
        admission: Arc<dyn registry::Admission>,
        naming: DeviceNaming,
    ) -> Self {
        let (clock, hand) = Clock::manual(START);
        let tasks = Tasks::new();
        let events = tokio::sync::Mutex::new(registry.subscribe());
        let server =
            TunnelServer::start(config, registry.clone(), admission, naming, clock.clone(), tasks.clone());
        Self { server, registry, authority: Authority::new(), hand, clock, tasks, events }
    }

    /// A certificate of this deployment, in the registry and active.
    pub(crate) fn enrolled(&self, name: &str) -> Issued {
        let issued = self.authority.issue(name);
        self.register(&issued);
        issued
    }

    pub(crate) fn register(&self, issued: &Issued) {
        self.registry.certificates().put(CertificateEntry {
            fingerprint: issued.fingerprint(),
            device: issued.device.clone(),
            status: CertificateStatus::Active,
            not_after: issued.not_after,
            used: true,
        });
    }

    /// A pipe whose other end the server takes as a connection with this certificate.
    pub(crate) fn dial(&self, certificate: &[u8]) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.server.serve_verified(theirs, certificate, peer());
        ours
    }

    /// A device that has spoken TLS and not yet said hello.
    pub(crate) fn device(&self, certificate: &[u8]) -> DeviceHandshake {
        let (driver, handshake) =
            tcpmux_proto::device(Buffered::new(self.dial(certificate)), Settings::default());
        self.tasks.spawn(driver);
        handshake
    }

    pub(crate) async fn try_connect(&self, issued: &Issued, boot_id: &str) -> Result<Greeted, GreetError> {
        self.device(&issued.der).greet(hello(boot_id), Duration::from_secs(60)).await
    }

    /// A connected device; returns when it is served.
    pub(crate) async fn connect(&self, issued: &Issued, boot_id: &str) -> Greeted {
        let greeted = self.try_connect(issued, boot_id).await.unwrap();
        let generation = greeted.welcome.generation;
        self.event(|event| match event {
            Event::DeviceConnected { generation: served, .. } => (*served == generation).then_some(()),
            _ => None,
        })
        .await;
        greeted
    }

    /// The next event that the choice takes.
    pub(crate) async fn event<T>(&self, mut choose: impl FnMut(&Event) -> Option<T>) -> T {
        let mut events = self.events.lock().await;
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = events.recv().await.unwrap();
                if let Some(chosen) = choose(&event) {
                    return chosen;
                }
                seen.push(event);
            }
        };
        match tokio::time::timeout(Duration::from_secs(600), wait).await {
            Ok(chosen) => chosen,
            Err(_) => panic!("no such event; instead: {seen:?}"),
        }
    }

    /// Why the session of this generation ended.
    pub(crate) async fn ended(&self, of: Generation) -> DisconnectCause {
        self.event(|event| match event {
            Event::DeviceDisconnected { generation, cause, .. } if *generation == of => Some(*cause),
            _ => None,
        })
        .await
    }

    pub(crate) async fn revoke(&self, issued: &Issued) -> Receipt {
        let notice = RevocationNotice {
            sequence: 1,
            device: issued.device.clone(),
            certificates: vec![issued.fingerprint()],
        };
        self.registry.revoke(notice, Duration::from_secs(3)).await
    }

    pub(crate) async fn open(&self, device: &DeviceRef, service: &str) -> Result<TunnelStream, OpenError> {
        let target = Target { device: device.clone(), service: service.parse().unwrap() };
        self.server.open(&target, header(service)).await
    }
}

pub(crate) fn peer() -> SocketAddr {
    "192.0.2.7:40000".parse().unwrap()
}

pub(crate) fn hello(boot_id: &str) -> Hello {
    Hello {
        agent_version: "0.1.0".into(),
        boot_id: boot_id.into(),
        slot: 0,
        features: vec![],
        claim_digest: None,
        services: vec![],
    }
}

pub(crate) fn header(service: &str) -> StreamHeader {
    tcpmux_proto::testing::header(service, StreamKind::Tcp)
}

/// The next thing that the cloud says to a device.
pub(crate) async fn told(device: &mut Greeted) -> CloudMessage {
    let message = tokio::time::timeout(Duration::from_secs(600), device.control.receive()).await;
    message.expect("the cloud says something").unwrap()
}

/// What the cloud answered to a device that it did not take.
pub(crate) fn refusal(result: Result<Greeted, GreetError>) -> Refused {
    match result {
        Err(GreetError::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn reason(result: Result<Greeted, GreetError>) -> RefusedReason {
    refusal(result).reason
}

/// Waits until a condition holds, giving everybody else the turn in between.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(600), wait).await.is_ok(), "never: {what}");
}
