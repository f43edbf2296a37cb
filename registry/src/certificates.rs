//! Which certificates open the device door.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock},
};

use model::{CertificateStatus, DeviceRef, Fingerprint, TenantName, Timestamp};
use tokio::sync::mpsc;

/// What a device showed in a handshake whose chain has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// The name inside the certificate.
    pub device: DeviceRef,
    /// The certificate's end.
    pub not_after: Timestamp,
}

/// Proof that a certificate was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is.
    pub device: DeviceRef,
    /// By which certificate.
    pub fingerprint: Fingerprint,
    /// Until when at most.
    pub not_after: Timestamp,
}

/// Why a certificate opens no door, although its chain verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Nobody here issued it: the sign of a stolen CA key, or of a restored backup.
    #[error("the certificate is not in the registry")]
    Unknown,
    /// It names another device than its row.
    #[error("the certificate names another device than its registry row")]
    OtherDevice,
    /// Its row is not finished.
    #[error("the certificate's issuance is not finished")]
    Pending,
    /// A successor was used.
    #[error("the certificate was succeeded by a newer one")]
    Retired,
    /// It was revoked.
    #[error("the certificate is revoked")]
    Revoked,
    /// It is past its end.
    #[error("the certificate has expired")]
    Expired,
    /// The tenant does not exist, or no longer.
    #[error("the certificate's tenant is not served here")]
    Tenant,
}

/// Decides whether a verified certificate is a known device's. The only implementation that a full
/// deployment uses is [`CertificateView`].
pub trait Admission: Send + Sync + std::fmt::Debug {
    /// The device behind the certificate, or why not. Called for every handshake; must not block.
    fn admit(&self, presented: &Presented, now: Timestamp) -> Result<Admitted, NotAdmitted>;
}

/// A certificate as the view keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateEntry {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Whose.
    pub device: DeviceRef,
    /// Usable?
    pub status: CertificateStatus,
    /// Its end.
    pub not_after: Timestamp,
    /// Whether it was used before; a first use retires its predecessor.
    pub used: bool,
}

/// Every unexpired certificate of the deployment. Bounded by the certificate registry, about 150
/// bytes a row.
#[derive(Debug)]
pub struct CertificateView {
    entries: RwLock<HashMap<Fingerprint, CertificateEntry>>,
    first_use: mpsc::Sender<Fingerprint>,
    first_uses: Mutex<Option<mpsc::Receiver<Fingerprint>>>,
}

impl Default for CertificateView {
    fn default() -> Self {
        let (first_use, first_uses) = mpsc::channel(FIRST_USES_QUEUED);
        Self { entries: RwLock::default(), first_use, first_uses: Mutex::new(Some(first_uses)) }
    }
}

impl CertificateView {
    /// Adds or replaces a row.
    pub fn put(&self, entry: CertificateEntry) {
        self.write().insert(entry.fingerprint, entry);
    }

    /// Adds many rows, as at start.
    pub fn load(&self, entries: impl IntoIterator<Item = CertificateEntry>) {
        let mut all = self.write();
        for entry in entries {
            all.insert(entry.fingerprint, entry);
        }
    }

    /// The row of a certificate.
    pub fn lookup(&self, fingerprint: Fingerprint) -> Option<CertificateEntry> {
        self.read().get(&fingerprint).cloned()
    }

    /// Changes a row's status. A revoked certificate stays revoked.
    pub fn set_status(&self, fingerprint: Fingerprint, status: CertificateStatus) {
        if let Some(entry) = self.write().get_mut(&fingerprint)
            && entry.status != CertificateStatus::Revoked
        {
            entry.status = status;
        }
    }

    /// Forgets certificates that ended before `now`; a door refuses them as expired by their own words.
    pub fn forget_expired(&self, now: Timestamp) {
        self.write().retain(|_, entry| entry.not_after > now);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn first_uses(&self) -> mpsc::Receiver<Fingerprint> {
        let taken = self.first_uses.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A second taker gets a channel that is closed: it sees its mistake at once.
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Fingerprint, CertificateEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Fingerprint, CertificateEntry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for CertificateView {
    fn admit(&self, presented: &Presented, now: Timestamp) -> Result<Admitted, NotAdmitted> {
        let used = {
            let entries = self.read();
            let entry = entries.get(&presented.fingerprint).ok_or(NotAdmitted::Unknown)?;
            if entry.device != presented.device {
                return Err(NotAdmitted::OtherDevice);
            }
            match entry.status {
                CertificateStatus::Pending => return Err(NotAdmitted::Pending),
                CertificateStatus::Retired => return Err(NotAdmitted::Retired),
                CertificateStatus::Revoked => return Err(NotAdmitted::Revoked),
                CertificateStatus::Active => {}
            }
            if presented.not_after <= now || entry.not_after <= now {
                return Err(NotAdmitted::Expired);
            }
            entry.used
        };
        // If the queue is full, the flag stays down and the next use tells again.
        if !used
            && self.first_use.try_send(presented.fingerprint).is_ok()
            && let Some(entry) = self.write().get_mut(&presented.fingerprint)
        {
            entry.used = true;
        }
        Ok(Admitted {
            device: presented.device.clone(),
            fingerprint: presented.fingerprint,
            not_after: presented.not_after,
        })
    }
}

/// Admits whatever the operator's own CA has signed, for one tenant: the minimal deployment, where
/// the operator's security layer keeps the registry.
#[derive(Debug)]
pub struct AnyOfThisAuthority {
    tenant: TenantName,
}

impl AnyOfThisAuthority {
    /// For devices of this tenant.
    pub fn new(tenant: TenantName) -> Self {
        Self { tenant }
    }
}

impl Admission for AnyOfThisAuthority {
    fn admit(&self, presented: &Presented, now: Timestamp) -> Result<Admitted, NotAdmitted> {
        if presented.device.tenant != self.tenant {
            return Err(NotAdmitted::Tenant);
        }
        if presented.not_after <= now {
            return Err(NotAdmitted::Expired);
        }
        Ok(Admitted {
            device: presented.device.clone(),
            fingerprint: presented.fingerprint,
            not_after: presented.not_after,
        })
    }
}

const FIRST_USES_QUEUED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceRef {
        DeviceRef::new(TenantName::default(), name.parse().unwrap())
    }

    fn presented() -> Presented {
        Presented { fingerprint: Fingerprint([1; 32]), device: device("cam-01"), not_after: Timestamp(100) }
    }

    fn entry(status: CertificateStatus) -> CertificateEntry {
        CertificateEntry {
            fingerprint: Fingerprint([1; 32]),
            device: device("cam-01"),
            status,
            not_after: Timestamp(100),
            used: false,
        }
    }

    #[test]
    fn only_a_known_active_unexpired_certificate_of_that_device_is_admitted() {
        let view = CertificateView::default();
        assert_eq!(view.admit(&presented(), Timestamp(1)), Err(NotAdmitted::Unknown));
        for (status, no) in [
            (CertificateStatus::Pending, NotAdmitted::Pending),
            (CertificateStatus::Retired, NotAdmitted::Retired),
            (CertificateStatus::Revoked, NotAdmitted::Revoked),
        ] {
            view.put(entry(status));
            assert_eq!(view.admit(&presented(), Timestamp(1)), Err(no));
        }
        view.put(entry(CertificateStatus::Active));
        assert_eq!(view.admit(&presented(), Timestamp(1)).unwrap().device, device("cam-01"));
        assert_eq!(view.admit(&presented(), Timestamp(100)), Err(NotAdmitted::Expired));
        let other = Presented { device: device("cam-02"), ..presented() };
        assert_eq!(view.admit(&other, Timestamp(1)), Err(NotAdmitted::OtherDevice));
    }

    #[test]
    fn a_revoked_certificate_stays_revoked() {
        let view = CertificateView::default();
        view.put(entry(CertificateStatus::Revoked));
        view.set_status(Fingerprint([1; 32]), CertificateStatus::Active);
        assert_eq!(view.admit(&presented(), Timestamp(1)), Err(NotAdmitted::Revoked));
    }

    #[test]
    fn a_first_use_is_told_once() {
        let view = CertificateView::default();
        let mut uses = view.first_uses();
        view.put(entry(CertificateStatus::Active));
        view.admit(&presented(), Timestamp(1)).unwrap();
        view.admit(&presented(), Timestamp(2)).unwrap();
        assert_eq!(uses.try_recv(), Ok(Fingerprint([1; 32])));
        assert!(uses.try_recv().is_err());
    }
}
