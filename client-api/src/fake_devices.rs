//! Daemons in memory, for tests: each at the other end of a tunnel, with a code that it may show.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use model::{ClaimCode, DeviceRef, Target};
use runtime::Tasks;
use tcpmux_proto::{
    BoxFuture, Dialer, OpenError, SessionHandle, StreamHeader, TunnelStream,
    agent::{self, AgentReply, AgentRequest, Diagnosis},
    testing::Pair,
};

use crate::claiming::digest_of;

/// The tunnels that stand.
#[derive(Default)]
pub(crate) struct FakeDevices {
    sessions: Mutex<HashMap<DeviceRef, SessionHandle>>,
    tasks: Tasks,
}

/// One daemon.
#[derive(Default)]
pub(crate) struct FakeDevice {
    pub(crate) shown: Mutex<Option<ClaimCode>>,
    /// How many codes it was given.
    pub(crate) given: AtomicUsize,
    /// How often it was told to forget.
    pub(crate) told_to_forget: AtomicUsize,
    /// It does what is asked and dies before it can say so.
    pub(crate) silent: AtomicBool,
    /// It cannot write.
    pub(crate) refuses: AtomicBool,
    pub(crate) calls: AtomicUsize,
}

impl FakeDevices {
    /// Connects a daemon, in place of any of that name.
    pub(crate) async fn connect(&self, device: &DeviceRef, daemon: &Arc<FakeDevice>) {
        let tasks = self.tasks.clone();
        let pair = Pair::new(|driver| drop(tasks.spawn(driver))).await;
        self.sessions.lock().unwrap().insert(device.clone(), pair.cloud.clone());
        let daemon = Arc::clone(daemon);
        self.tasks.spawn(async move {
            // All of it: a control stream that is let go ends the session.
            let mut pair = pair;
            while let Some(stream) = pair.device.incoming.next().await {
                if daemon.silent.load(Ordering::SeqCst) {
                    let acted = agent::answer(stream, async |request| {
                        daemon.handle(request);
                        std::future::pending().await
                    });
                    drop(tokio::time::timeout(std::time::Duration::from_millis(50), acted).await);
                } else {
                    drop(agent::answer(stream, async |request| daemon.handle(request)).await);
                }
            }
        });
    }

    pub(crate) fn disconnect(&self, device: &DeviceRef) {
        self.sessions.lock().unwrap().remove(device);
    }
}

impl FakeDevice {
    pub(crate) fn code(&self) -> Option<ClaimCode> {
        self.shown.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, what: impl Fn(&Self) -> &AtomicUsize) -> usize {
        what(self).load(Ordering::SeqCst)
    }

    fn handle(&self, request: AgentRequest) -> AgentReply {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            return AgentReply::refused("the disk is full");
        }
        match request {
            AgentRequest::ClaimCode { code } => {
                self.given.fetch_add(1, Ordering::SeqCst);
                *self.shown.lock().unwrap() = Some(code);
                AgentReply::Done
            }
            AgentRequest::ForgetClaimCode => {
                self.told_to_forget.fetch_add(1, Ordering::SeqCst);
                *self.shown.lock().unwrap() = None;
                AgentReply::Done
            }
            AgentRequest::Diagnose => AgentReply::Diagnosis(Diagnosis {
                claim_digest: self.code().map(|code| digest_of(&code).0),
                ..Diagnosis::default()
            }),
            other => AgentReply::refused(other.name()),
        }
    }
}

impl Dialer for FakeDevices {
    fn open<'a>(
        &'a self,
        target: &'a Target,
        header: StreamHeader,
    ) -> BoxFuture<'a, Result<TunnelStream, OpenError>> {
        Box::pin(async move {
            let session = self.sessions.lock().unwrap().get(&target.device).cloned();
            session.ok_or(OpenError::Offline)?.open(header)
        })
    }
}
