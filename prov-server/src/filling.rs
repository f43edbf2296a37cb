//! The doors' view after a start: filled while they are open already, beginning with whoever knocks.

use std::{sync::Arc, time::Duration};

use model::Fingerprint;
use registry::{CertificateEntry, Wanted};
use runtime::Backoff;
use store::{DoorCertificate, StoreError};
use tokio::{sync::mpsc, time::Instant};

use crate::{finishing::entry, provisioning::Provisioning};

impl Provisioning {
    /// Puts every device certificate that can still open a door into the view; a device that comes before its row
    /// has its row read out of turn. A store that is away is waited for: until then the view admits what it has.
    pub(crate) async fn fill_view(self: Arc<Self>, mut wanted: mpsc::Receiver<Wanted>) {
        let start = Instant::now();
        let reading_wanted = async {
            while let Some(Wanted { fingerprint, done }) = wanted.recv().await {
                if let Err(error) = self.fill_one(fingerprint).await {
                    tracing::warn!(%fingerprint, %error, "a certificate's row was not read yet");
                }
                // Who asked may be gone.
                let _ = done.send(());
            }
        };
        tokio::select! {
            // Before the queue goes: who waits in it then finds a view that is whole.
            () = async { self.fill_all().await; self.registry.certificates().end_filling() } => {}
            // Others may have the queue; the rows are all read nevertheless.
            () = async { reading_wanted.await; std::future::pending().await } => {}
        }
        let (certificates, seconds) = (self.registry.certificates().len(), start.elapsed().as_secs_f64());
        tracing::info!(certificates, seconds, "every certificate's row is read");
    }

    async fn fill_one(&self, fingerprint: Fingerprint) -> Result<(), StoreError> {
        let row = self.store.certificate(fingerprint).await?;
        self.registry.certificates().fill(row.and_then(|row| entry(&row.certificate)));
        Ok(())
    }

    async fn fill_all(&self) {
        let now = self.clock.now();
        let (mut last, mut backoff) = (0, Backoff::new(RETRY_FIRST, RETRY_MOST));
        loop {
            match self.store.door_certificates(now, last, PAGE).await {
                Ok(page) => {
                    let Some(end) = page.last() else { return };
                    last = end.id;
                    self.registry.certificates().fill(page.into_iter().map(of_row));
                }
                Err(error) => {
                    tracing::error!(%error, "the certificate registry was not read yet");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }
}

fn of_row(row: DoorCertificate) -> CertificateEntry {
    let DoorCertificate { fingerprint, device, status, not_after, used, .. } = row;
    CertificateEntry { fingerprint, device, status, not_after, used }
}

/// Rows that are read, and put into the view under its lock, at once.
const PAGE: u32 = 1000;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);
