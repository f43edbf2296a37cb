//! One session with the cloud, from its welcome to its end.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use model::{DisconnectCause, Fingerprint};
use runtime::Tasks;
use tcpmux_proto::{CloudMessage, DeviceControl, DeviceMessage, Goodbye, Greeted, Incoming, SessionHandle};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{Services, agent::Agent, serve::serve};

/// A session that is served by its own tasks.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) handle: SessionHandle,
    /// The certificate that it was made with.
    pub(crate) certificate: Fingerprint,
    news: oneshot::Receiver<Leave>,
    retired: CancellationToken,
}

/// Why another session is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The session is over.
    Ended(DisconnectCause),
    /// The node goes away; connect elsewhere after this delay. Live streams go on.
    Drain(Duration),
    /// The cloud does not know this session, although the connection stands.
    Unregistered,
}

impl Session {
    /// Begins to serve.
    pub(crate) fn start(
        greeted: Greeted,
        certificate: Fingerprint,
        services: Arc<Services>,
        agent: Agent,
        tasks: &Tasks,
    ) -> Self {
        let Greeted { handle, incoming, control, .. } = greeted;
        let (sender, news) = oneshot::channel();
        let retired = CancellationToken::new();
        let served = Served { handle: handle.clone(), news: Some(sender), retired: retired.clone() };
        tasks.spawn(served.run(incoming, control, services, agent, tasks.clone()));
        Self { handle, certificate, news, retired }
    }

    /// Waits for a reason to connect anew. To be asked once.
    pub(crate) async fn leave(&mut self) -> Leave {
        (&mut self.news).await.unwrap_or(Leave::Ended(DisconnectCause::Lost))
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        is_over(&self.handle)
    }

    /// Another session took over: live streams finish, then this one ends.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
    }
}

/// Whether a session has ended.
pub(crate) fn is_over(handle: &SessionHandle) -> bool {
    handle.closed().now_or_never().is_some()
}

struct Served {
    handle: SessionHandle,
    news: Option<oneshot::Sender<Leave>>,
    retired: CancellationToken,
}

impl Served {
    async fn run(
        mut self,
        incoming: Incoming,
        mut control: DeviceControl,
        services: Arc<Services>,
        agent: Agent,
        tasks: Tasks,
    ) {
        let process_ends = tasks.draining();
        let phase = Instant::now() + ASK_EVERY.mul_f64(0.5 + fastrand::f64() / 2.0);
        let mut questions = interval_at(phase, ASK_EVERY);
        questions.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let serving = tasks.spawn(serve(incoming, services, agent, tasks.clone()));
        // Once set, no new streams come; the session ends when the live ones have, or at this moment.
        let mut finish_by: Option<Instant> = None;
        let cause = loop {
            tokio::select! {
                // Last words first: they say better than the end itself why it came.
                biased;
                message = control.receive() => match message {
                    Ok(CloudMessage::Drain(drain)) => {
                        self.tell(Leave::Drain(drain.delay));
                        finish_by = Some(self.finish_within(drain.deadline.min(LONGEST_FINISH)));
                    }
                    Ok(CloudMessage::Replaced(_)) => {
                        self.tell(Leave::Ended(DisconnectCause::Replaced));
                        finish_by = Some(self.finish_within(FINISH));
                    }
                    Ok(CloudMessage::Status(status)) if !status.registered => {
                        self.tell(Leave::Unregistered);
                    }
                    Ok(CloudMessage::Goodbye(goodbye)) => break goodbye.cause,
                    Ok(CloudMessage::Ping(ping)) => {
                        drop(timeout(CONTROL_LIMIT, control.send(&DeviceMessage::Pong(ping))).await);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the control stream failed");
                        break self.cause_soon().await;
                    }
                },
                cause = self.handle.closed() => break cause,
                // A tunnel that stands is not yet one that is found: the registry may have forgotten it.
                _ = questions.tick(), if finish_by.is_none() => {
                    drop(timeout(CONTROL_LIMIT, control.send(&DeviceMessage::StatusQuery)).await);
                }
                () = self.retired.cancelled(), if finish_by.is_none() => {
                    finish_by = Some(self.finish_within(FINISH));
                }
                () = process_ends.cancelled(), if finish_by.is_none() => {
                    finish_by = Some(self.finish_within(FINISH));
                }
                () = finished(&self.handle, finish_by), if finish_by.is_some() => {
                    let goodbye = DeviceMessage::Goodbye(Goodbye { cause: DisconnectCause::Closed });
                    drop(timeout(CONTROL_LIMIT, control.send(&goodbye)).await);
                    break DisconnectCause::Closed;
                }
            }
        };
        self.handle.close(cause);
        self.tell(Leave::Ended(cause));
        serving.abort();
    }

    fn finish_within(&self, limit: Duration) -> Instant {
        self.handle.drain();
        Instant::now() + limit
    }

    /// The control stream ends together with the session, whose cause says more.
    async fn cause_soon(&self) -> DisconnectCause {
        timeout(CONTROL_LIMIT, self.handle.closed()).await.unwrap_or(DisconnectCause::Protocol)
    }

    fn tell(&mut self, leave: Leave) {
        if let Some(news) = self.news.take() {
            // Nobody listens once another session took over.
            news.send(leave).ok();
        }
    }
}

async fn finished(handle: &SessionHandle, by: Option<Instant>) {
    match by {
        Some(by) => drop(timeout_at(by, handle.idle()).await),
        None => std::future::pending().await,
    }
}

const LONGEST_FINISH: Duration = Duration::from_secs(3600);
const FINISH: Duration = Duration::from_secs(30);
const CONTROL_LIMIT: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use model::{Generation, Timestamp};
    use runtime::Clock;
    use tcpmux_proto::{Replaced, testing::Pair};

    use super::*;
    use crate::{ClaimFile, TrustedTime, status::Board};

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test has no shutdown to wait for")]
    async fn the_last_word_of_the_cloud_counts_although_the_end_came_with_it() {
        let replaced = CloudMessage::Replaced(Replaced { generation: Generation(2) });
        let revoked = CloudMessage::Goodbye(Goodbye { cause: DisconnectCause::Revoked });
        let time = TrustedTime::new(Clock::system(), Timestamp(0));
        let agent =
            Agent::new(ClaimFile::at("/nowhere/claim_code"), Arc::new(Board::sample()), Arc::default(), time);
        let said = [(replaced, DisconnectCause::Replaced), (revoked, DisconnectCause::Revoked)];
        // Which of two things that are ready is taken would otherwise be chance.
        for (message, cause) in said.iter().cycle().take(40) {
            let mut pair = Pair::new(|driver| drop(tokio::spawn(driver))).await;
            pair.cloud_control.send(message).await.unwrap();
            pair.cloud.close(*cause);
            // A machine that was busy finds both when it looks.
            pair.device.handle.closed().await;
            let (services, tasks) = (Arc::new(Services::new(&[], false, None).unwrap()), Tasks::new());
            let mut session =
                Session::start(pair.device, Fingerprint([1; 32]), services, agent.clone(), &tasks);
            assert_eq!(session.leave().await, Leave::Ended(*cause));
        }
    }
}
