//! Calls to the daemons of devices: one at a time for each device.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use model::{ClaimDigest, DeviceRef, RequestId};
use runtime::random;
use tcpmux_proto::{
    Dialer,
    agent::{self, AgentError, AgentReply, AgentRequest},
};
use tokio::{sync::Mutex as Turn, time::timeout};

/// Reaches the daemons.
pub(crate) struct AgentCalls {
    dialer: Arc<dyn Dialer>,
    /// Those that are being called. Bounded by the callers, each of which waits for one turn.
    turns: Mutex<HashMap<DeviceRef, Arc<Turn<()>>>>,
}

/// Why a daemon gave no answer that helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The call came to nothing.
    #[error(transparent)]
    Call(#[from] AgentError),
    /// Others were served first for too long, or the daemon was too slow.
    #[error("no answer within {} s", .0.as_secs())]
    TooLate(Duration),
    /// It said no, or something else than what was asked for.
    #[error("the daemon answered: {0}")]
    Refused(String),
}

impl AgentCalls {
    pub(crate) fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self { dialer, turns: Mutex::default() }
    }

    /// Has the daemon do something.
    pub(crate) async fn order(
        &self,
        device: &DeviceRef,
        request: AgentRequest,
        within: Duration,
    ) -> Result<(), NoAnswer> {
        match self.ask(device, request, within).await? {
            AgentReply::Done => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// The code that the device shows at this moment: proof that it is there, too.
    pub(crate) async fn shown_code(
        &self,
        device: &DeviceRef,
        within: Duration,
    ) -> Result<Option<ClaimDigest>, NoAnswer> {
        match self.ask(device, AgentRequest::Diagnose, within).await? {
            AgentReply::Diagnosis(diagnosis) => Ok(diagnosis.claim_digest.map(ClaimDigest)),
            other => Err(refused(other)),
        }
    }

    async fn ask(
        &self,
        device: &DeviceRef,
        request: AgentRequest,
        within: Duration,
    ) -> Result<AgentReply, NoAnswer> {
        let place = self.place(device);
        let asked = async {
            let _mine = place.turn.lock().await;
            let request_id = RequestId::from_random(random::bytes());
            let reply = agent::ask(&*self.dialer, device, &request, request_id.clone()).await;
            tracing::debug!(%device, request = request.name(), %request_id, reply = ?reply, "called a daemon");
            reply
        };
        Ok(timeout(within, asked).await.map_err(|_| NoAnswer::TooLate(within))??)
    }

    fn place<'a>(&'a self, device: &'a DeviceRef) -> Place<'a> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(turns.entry(device.clone()).or_default());
        Place { calls: self, device, turn }
    }
}

/// Somebody who calls a device or waits to; also one who goes away early leaves nothing behind.
struct Place<'a> {
    calls: &'a AgentCalls,
    device: &'a DeviceRef,
    turn: Arc<Turn<()>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut turns = self.calls.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody joins while the map is locked: two are this place and the map.
        if Arc::strong_count(&self.turn) == 2 {
            turns.remove(self.device);
        }
    }
}

fn refused(reply: AgentReply) -> NoAnswer {
    NoAnswer::Refused(match reply {
        AgentReply::Refused { reason } => reason,
        other => format!("{other:?}"),
    })
}
