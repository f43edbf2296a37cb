//! What has to be done now and then: renew the certificate, remember the time, notice a new enrolment.

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::Notify, time::MissedTickBehavior};

use crate::{
    DaemonConfig, Identity, TrustedTime,
    renew::{Schedule, renew},
    status::Board,
};

pub(crate) struct Housekeeping {
    config: DaemonConfig,
    time: TrustedTime,
    board: Arc<Board>,
    changed: Arc<Notify>,
    schedule: Schedule,
    current: Option<PathBuf>,
}

impl Housekeeping {
    pub(crate) fn new(
        config: DaemonConfig,
        identity: &Identity,
        time: TrustedTime,
        board: Arc<Board>,
        changed: Arc<Notify>,
    ) -> Self {
        let current = config.state.current();
        Self { schedule: Schedule::new(&identity.certificate), config, time, board, changed, current }
    }

    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.config.renewal_check);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.notice_another_identity();
            self.remember_time();
            if self.schedule.is_due(self.time.now()) {
                self.renew().await;
            }
        }
    }

    async fn renew(&mut self) {
        let outcome = match self.config.identity() {
            Ok(identity) => {
                let (state, way_out) = (&self.config.state, &self.config.way_out);
                renew(&identity, state, way_out, &self.time).await
            }
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(identity) => {
                tracing::info!(
                    serial = identity.certificate.serial,
                    not_after = identity.certificate.not_after.rfc3339(),
                    "certificate renewed"
                );
                self.take(&identity);
            }
            Err(error) => {
                self.schedule.failed(self.time.now(), error.retry_after());
                let next = self.schedule.next();
                tracing::warn!(%error, next_attempt = next.rfc3339(), "the certificate could not be renewed");
                self.board.renewal_moved(next);
            }
        }
    }

    /// `tcpmux-client enroll` may have replaced the identity.
    fn notice_another_identity(&mut self) {
        if self.config.state.current() != self.current
            && let Ok(identity) = self.config.identity()
        {
            self.take(&identity);
        }
    }

    fn take(&mut self, identity: &Identity) {
        self.current = self.config.state.current();
        self.schedule = Schedule::new(&identity.certificate);
        self.board.identity(identity, true);
        self.changed.notify_one();
    }

    /// Keeps what the cloud proved for the next start; seldom, since flash wears out.
    fn remember_time(&self) {
        let Some(proven) = self.time.proven() else { return };
        let kept = self.config.state.proven_time();
        if kept.is_none_or(|kept| proven.since(kept) > REMEMBER_EVERY)
            && let Err(error) = self.config.state.remember_time(proven)
        {
            tracing::warn!(%error, "the time could not be remembered");
        }
    }
}

const REMEMBER_EVERY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
