//! What both enrolment stories end with: the intended certificate is finished whatever becomes of the
//! caller, and the doors hear of it before the caller does.

use std::sync::Arc;

use model::{CertificateStatus, Event};
use registry::CertificateEntry;
use store::{CertificateRow, IssuanceRow, Subject};

use crate::{fault::Step, issuing::IssueError, provisioning::Provisioning};

impl Provisioning {
    /// Signs, records and admits an intended certificate, in a task of its own: a caller who leaves
    /// leaves nothing half done. Returns the certificate's DER.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        row: IssuanceRow,
        is_fresh: bool,
    ) -> Result<Vec<u8>, IssueError> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let renewal = row.certificate.parent.is_some();
            let row = this.issuing.finish_device(row).await?;
            this.admit(&row.certificate).await?;
            this.config.fault_points.reached(Step::Admitted);
            if is_fresh {
                this.announce(&row.certificate, renewal);
            }
            row.der.ok_or(IssueError::Interrupted)
        });
        task.await.ok().flatten().unwrap_or(Err(IssueError::Interrupted))
    }

    /// Puts a certificate into the doors' view, once.
    async fn admit(&self, row: &CertificateRow) -> Result<(), IssueError> {
        let (view, Some(entry)) = (self.registry.certificates(), entry(row)) else { return Ok(()) };
        let fingerprint = entry.fingerprint;
        if view.lookup(fingerprint).is_none() {
            view.put(entry);
        }
        // A revocation that was committed before the entry stood found nothing to mark.
        if let Some(now) = self.store.certificate(fingerprint).await?
            && now.certificate.status != CertificateStatus::Active
        {
            view.set_status(fingerprint, now.certificate.status);
        }
        Ok(())
    }

    fn announce(&self, row: &CertificateRow, renewal: bool) {
        let (Subject::Device(device), Some(certificate)) = (&row.subject, row.fingerprint) else { return };
        let kind = if renewal { "renewal" } else { "enrolment" };
        metrics::counter!("tcpmux_certificates_issued_total", "kind" => kind).increment(1);
        tracing::info!(%device, %certificate, serial = %row.serial, renewal, "certificate issued");
        let at = self.clock.now();
        self.registry.publish(Event::CertificateIssued { device: device.clone(), certificate, renewal, at });
    }
}

/// A row as the doors' view keeps it.
pub(crate) fn entry(row: &CertificateRow) -> Option<CertificateEntry> {
    let (Subject::Device(device), Some(fingerprint)) = (&row.subject, row.fingerprint) else { return None };
    Some(CertificateEntry {
        fingerprint,
        device: device.clone(),
        status: row.status,
        not_after: row.not_after,
        used: row.first_used_at.is_some(),
    })
}
