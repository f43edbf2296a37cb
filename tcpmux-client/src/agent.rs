//! What the daemon does when the cloud calls it, and not one of its services.

use std::sync::Arc;

use tcpmux_proto::{
    IncomingStream, OpenError,
    agent::{AgentReply, AgentRequest, Diagnosis, answer},
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};

use crate::{TrustedTime, claim::ClaimFile, status::Board, uplink::TokenHolder};

/// The daemon as the cloud calls it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Agent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    claim: ClaimFile,
    /// The file is changed by one call at a time, in the order in which they came.
    changing: Mutex<()>,
    calls: Semaphore,
    board: Arc<Board>,
    tokens: Arc<TokenHolder>,
    time: TrustedTime,
    started: Instant,
}

impl Agent {
    pub(crate) fn new(
        claim: ClaimFile,
        board: Arc<Board>,
        tokens: Arc<TokenHolder>,
        time: TrustedTime,
    ) -> Self {
        let agent = Inner {
            claim,
            changing: Mutex::default(),
            calls: Semaphore::new(MOST_CALLS),
            started: Instant::now(),
            board,
            tokens,
            time,
        };
        agent.board.claimable(agent.claim.digest().is_some());
        Self(Arc::new(agent))
    }

    /// The digest of the code that is shown now.
    pub(crate) fn claim_digest(&self) -> Option<[u8; 32]> {
        self.0.claim.digest().map(|digest| digest.0)
    }

    /// Answers one call.
    pub(crate) async fn serve(&self, stream: IncomingStream) {
        let request_id = stream.header.request_id.clone();
        let Ok(_turn) = self.0.calls.try_acquire() else { return stream.reject(OpenError::Busy) };
        let mut asked = "";
        let answered = answer(stream, async |request| {
            asked = request.name();
            self.handle(request).await
        });
        match answered.await {
            Ok(()) => tracing::debug!(%request_id, asked, "the cloud's call was answered"),
            Err(error) => tracing::debug!(%request_id, asked, %error, "the cloud's call failed"),
        }
    }

    async fn handle(&self, request: AgentRequest) -> AgentReply {
        match request {
            AgentRequest::ClaimCode { code } => {
                self.change("a claim code came; whoever can read it may claim this device", move |file| {
                    file.put(&code)
                })
                .await
            }
            AgentRequest::ForgetClaimCode => {
                self.change("no claim code is shown any more", ClaimFile::remove).await
            }
            AgentRequest::DeviceToken { token, .. } => {
                // The gateway is the door that the device dials anyway, whatever others call it.
                self.0.tokens.put(token);
                AgentReply::Done
            }
            AgentRequest::Diagnose => AgentReply::Diagnosis(Diagnosis {
                agent_version: env!("CARGO_PKG_VERSION").into(),
                uptime_s: self.0.started.elapsed().as_secs(),
                claim_digest: self.claim_digest(),
                clock_plausible: self.0.time.clock_is_plausible(),
            }),
            AgentRequest::Unknown => AgentReply::refused("this daemon does not know the request; update it"),
        }
    }

    /// Changes the file and answers only once that is on disk. A flush of a slow disk stops nothing else.
    async fn change(
        &self,
        news: &'static str,
        act: impl FnOnce(&ClaimFile) -> Result<(), crate::ClaimFileError> + Send + 'static,
    ) -> AgentReply {
        let _in_order = self.0.changing.lock().await;
        let file = self.0.claim.clone();
        let before = file.digest();
        let outcome = tokio::task::spawn_blocking(move || act(&file)).await;
        let after = self.0.claim.digest();
        self.0.board.claimable(after.is_some());
        match outcome {
            Ok(Ok(())) => {
                if before != after {
                    tracing::info!(file = %self.0.claim.path().display(), "{news}");
                }
                AgentReply::Done
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the claim code cannot be changed");
                AgentReply::refused(error.to_string())
            }
            Err(_) => AgentReply::refused("the daemon is stopping"),
        }
    }
}

/// The cloud asks one thing at a time; more at once are not its doing.
const MOST_CALLS: usize = 8;
