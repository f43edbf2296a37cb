//! The room: what it is made of, and how it starts.

use std::{sync::Arc, time::Duration};

use ca::{Hierarchy, KeyStore};
use registry::Registry;
use runtime::{Clock, Tasks};
use store::{AuditEntry, IssuerName, Store, StoreError};
use tokio::time::Instant;

use crate::{
    Config,
    issuing::{IssueError, Issuing},
    limits::Failures,
    publishing::Published,
};

/// Passcodes, enrolment, renewal, revocation and published lists of one deployment.
pub struct Provisioning {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) issuing: Issuing,
    pub(crate) failures: Failures,
    pub(crate) published: Published,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

/// Why provisioning did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("cannot read the certificate registry: {0}")]
    Store(#[from] StoreError),
    /// An issuance that was cut short could not be finished.
    #[error("cannot finish an issuance that was cut short: {0}")]
    Recovery(Box<dyn std::error::Error + Send + Sync>),
}

impl Provisioning {
    /// Finishes what an earlier process left unfinished, publishes the lists, and begins to fill the doors' view and to
    /// note first uses. Opens no door: see [`Self::admin_routes`] and [`Self::device_routes`].
    pub async fn start(
        config: Config,
        store: Store,
        registry: Registry,
        hierarchy: Hierarchy,
        keys: Arc<dyn KeyStore>,
        clock: Clock,
        tasks: Tasks,
    ) -> Result<Arc<Self>, StartError> {
        let latest = store.last_issuance_at().await?;
        let issuing = Issuing::new(&config, hierarchy, keys, store.clone(), clock.clone(), latest);
        let this = Arc::new(Self {
            failures: Failures::new(&config.limits),
            published: Published::default(),
            config,
            store,
            registry,
            issuing,
            clock,
            tasks,
        });
        let wanted = this.registry.certificates().begin_filling();
        this.recover().await?;
        this.tasks.spawn(Arc::clone(&this).fill_view(wanted));
        for issuer in [IssuerName::Devices, IssuerName::Services] {
            // Without a list the doors still work; the hourly round tries again.
            if let Err(error) = this.list(issuer).await {
                tracing::error!(issuer = issuer.as_str(), %error, "the revocation list was not published");
            }
        }
        this.tasks.spawn(Arc::clone(&this).note_first_uses(this.registry.first_uses()));
        this.tasks.spawn(Arc::clone(&this).note_alarms(this.registry.subscribe()));
        this.tasks.spawn(Arc::clone(&this).keep_house());
        Ok(this)
    }

    /// Once an hour: lists that are due, and what can be forgotten.
    async fn keep_house(self: Arc<Self>) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.tick().await;
        loop {
            rounds.tick().await;
            for issuer in [IssuerName::Devices, IssuerName::Services] {
                if let Err(error) = self.list(issuer).await {
                    tracing::error!(issuer = issuer.as_str(), %error, "the revocation list was not renewed");
                }
            }
            let now = self.clock.now();
            self.registry.certificates().forget_expired(now);
            if let Err(error) = self.store.forget_passcodes(now.minus(PASSCODES_KEPT)).await {
                tracing::warn!(%error, "old passcodes were not forgotten");
            }
        }
    }

    /// Writes an audit row for a failure, unless everybody together fails so often that rows would fill the disk.
    pub(crate) async fn audit_failure(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.failures.audited.wait(&(), now).is_some() {
            metrics::counter!("tcpmux_audit_rows_dropped_total").increment(1);
            return Ok(());
        }
        self.failures.audited.count((), now);
        self.store.append_audit(entry, self.clock.now()).await.map(drop)
    }
}

impl std::fmt::Debug for Provisioning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provisioning").finish_non_exhaustive()
    }
}

impl From<IssueError> for StartError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Store(error) => Self::Store(error),
            other => Self::Recovery(other.into()),
        }
    }
}

const ROUND: Duration = Duration::from_secs(3600);
const PASSCODES_KEPT: Duration = Duration::from_secs(30 * 86_400);
