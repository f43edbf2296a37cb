//! The first use of a certificate: its predecessors end.

use std::{sync::Arc, time::Duration};

use model::{CertificateStatus, Fingerprint, Timestamp};
use runtime::Backoff;
use store::StoreError;
use tokio::sync::mpsc;

use crate::provisioning::Provisioning;

impl Provisioning {
    /// Notes first uses that the doors report, until the process ends. A store that is away is waited
    /// for: a use that got lost here would be reported again only by the next start.
    pub(crate) async fn note_first_uses(self: Arc<Self>, mut uses: mpsc::Receiver<Fingerprint>) {
        while let Some(fingerprint) = uses.recv().await {
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
            while let Err(error) = self.note_first_use(fingerprint, self.clock.now()).await {
                tracing::warn!(%fingerprint, %error, "a first use was not noted yet");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }

    /// Notes that a certificate was used; retires what it succeeded, in the rows and in the doors' view.
    pub(crate) async fn note_first_use(
        &self,
        fingerprint: Fingerprint,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(first) = self.store.confirm_first_use(fingerprint, at).await? else { return Ok(()) };
        for retired in &first.retired {
            self.registry.certificates().set_status(*retired, CertificateStatus::Retired);
        }
        tracing::debug!(device = %first.device, retired = first.retired.len(), "certificate used for the first time");
        Ok(())
    }
}

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
