//! From an identity to a greeted session: TCP, TLS with both certificates, hello.

use std::{io, sync::Arc, time::Duration};

use runtime::{Tasks, records};
use tcpmux_proto::{ALPN, Ended, GreetError, Greeted, Hello, Refused, RefusedReason, Settings};
use tokio::time::timeout;

use crate::{
    DialError, Identity, Services, TrustedTime, WayOut, agent::Agent, dial, heap,
    https::is_certificate_fault, trust,
};

/// What every attempt needs.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) way_out: WayOut,
    pub(crate) time: TrustedTime,
    pub(crate) services: Arc<Services>,
    pub(crate) agent: Agent,
    pub(crate) tasks: Tasks,
    /// Random at each start: tells a restart from a clone.
    pub(crate) boot_id: String,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("TLS: {0}{remedy}", remedy = if is_certificate_fault(.0) { INTERCEPTED } else { "" })]
    Tls(io::Error),
    #[error("the identity cannot be used: {0}")]
    Identity(rustls::Error),
    #[error("the server does not speak tcpmux/1 at this port")]
    Alpn,
    #[error("{}", explain(.0))]
    Refused(Refused),
    #[error("{error}{detail}")]
    Greet { error: GreetError, detail: String },
}

impl ConnectError {
    /// How long the cloud wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => refused.retry_after,
            _ => None,
        }
    }
}

impl Connector {
    /// Makes one attempt. Nothing of this device is said before the server's certificate led to the
    /// pinned CA and named the server.
    pub(crate) async fn connect(&self, identity: &Identity) -> Result<Greeted, ConnectError> {
        let config = trust::tunnel(identity, &self.time).map_err(ConnectError::Identity)?;
        let stream = dial::dial(&identity.server, &self.way_out).await?;
        let handshake = records::connect(stream, Arc::new(config), identity.server.tls_name());
        let (records, cloud) = timeout(HANDSHAKE_LIMIT, handshake)
            .await
            .map_err(|_| ConnectError::Tls(io::ErrorKind::TimedOut.into()))?
            .map_err(ConnectError::Tls)?;
        if cloud.alpn.as_deref() != Some(ALPN) {
            return Err(ConnectError::Alpn);
        }
        let (driver, handshake) = tcpmux_proto::device(records, Settings::default());
        let driver = self.tasks.spawn(driver.when_quiet(heap::settle));
        match handshake.greet(self.hello(), HELLO_LIMIT).await {
            Ok(greeted) => Ok(greeted),
            Err(GreetError::Refused(refused)) => Err(ConnectError::Refused(refused)),
            Err(error) => {
                // In TLS 1.3 a server that does not like our certificate says so after the handshake.
                let ended: Option<Ended> =
                    timeout(LAST_WORDS, driver).await.ok().and_then(Result::ok).flatten();
                let detail = ended.and_then(|ended| ended.detail).map_or(String::new(), |d| format!(": {d}"));
                Err(ConnectError::Greet { error, detail })
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            boot_id: self.boot_id.clone(),
            slot: 0,
            features: vec![],
            claim_digest: self.agent.claim_digest(),
            services: self.services.offers(),
        }
    }
}

fn explain(refused: &Refused) -> &'static str {
    match refused.reason {
        RefusedReason::Busy => "the cloud has no room just now",
        RefusedReason::Draining => "this node of the cloud is going away",
        RefusedReason::Unavailable => "something that the cloud needs is away",
        RefusedReason::NotAdmitted => {
            "the cloud does not admit this certificate (revoked, removed or replaced); \
             if it should, enrol anew: tcpmux-client enroll"
        }
        RefusedReason::CloneSuspected => {
            "two machines use this certificate in turns; enrol each with its own passcode"
        }
        RefusedReason::BadHello => "the cloud cannot serve this daemon; update it",
        RefusedReason::Other => "the cloud refuses the session",
    }
}

const INTERCEPTED: &str =
    ". Either this is another cloud, or something on the way opens TLS and must exempt this server";
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const HELLO_LIMIT: Duration = Duration::from_secs(10);
const LAST_WORDS: Duration = Duration::from_millis(500);
