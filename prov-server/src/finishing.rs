//! What both enrolment stories end with: from the durable intent on, the certificate is finished whatever
//! becomes of the caller, and the doors hear of it before the caller does.

use model::{CertificateStatus, Event};
use registry::CertificateEntry;
use store::{CertificateRow, IssuanceRow, Subject};

use crate::{fault::Step, issuing::IssueError, provisioning::Provisioning};

impl Provisioning {
    /// Does the durable part of a story in a task of its own: a caller who leaves leaves nothing half done.
    pub(crate) async fn to_the_end<T, F>(&self, story: F) -> Result<T, IssueError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, IssueError>> + Send + 'static,
    {
        self.tasks.spawn(story).await.ok().flatten().unwrap_or(Err(IssueError::Interrupted))
    }

    /// Signs, records and admits an intended certificate. Returns its DER.
    pub(crate) async fn finish(&self, row: IssuanceRow, is_fresh: bool) -> Result<Vec<u8>, IssueError> {
        let renewal = row.certificate.parent.is_some();
        let row = self.issuing.finish_device(row).await?;
        self.admit(&row.certificate).await?;
        self.config.fault_points.reached(Step::Admitted);
        if is_fresh {
            self.announce(&row.certificate, renewal);
        }
        row.der.ok_or(IssueError::Interrupted)
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
