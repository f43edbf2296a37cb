//! Which certificates open the device door.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use model::{CertificateStatus, DeviceRef, Fingerprint, TenantName, Timestamp};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

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
    /// Its row may not have been read yet: this process has just begun. See [`Admission::read`].
    #[error("the certificate's registry row was not read yet")]
    Unread,
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

    /// Asks for the row of a certificate that was [`NotAdmitted::Unread`]. When the receiver resolves or fails, ask
    /// again; what is unread still may come later.
    fn read(&self, fingerprint: Fingerprint) -> oneshot::Receiver<()>;
}

impl dyn Admission {
    /// The same as [`Admission::admit`] for those who can wait: in the first moments of a process the row may have to be
    /// read first. One that does not come within that time is [`NotAdmitted::Unread`] still.
    pub async fn admit_or_read(
        &self,
        presented: &Presented,
        within: Duration,
        now: impl Fn() -> Timestamp + Send,
    ) -> Result<Admitted, NotAdmitted> {
        let admitted = self.admit(presented, now());
        if admitted != Err(NotAdmitted::Unread) {
            return admitted;
        }
        // Whether it was read, is asked of the view.
        let _ = timeout(within, self.read(presented.fingerprint)).await;
        self.admit(presented, now())
    }
}

/// A certificate whose row somebody waits for while the view is being filled.
#[derive(Debug)]
pub struct Wanted {
    /// Which.
    pub fingerprint: Fingerprint,
    /// To be told once its row, if there is one, is in the view.
    pub done: oneshot::Sender<()>,
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
///
/// It may be filled while the doors are open already: [`Self::begin_filling`], any number of [`Self::fill`], then
/// [`Self::end_filling`]. Meanwhile a certificate that is not in it is not unknown but [`NotAdmitted::Unread`], and
/// its row is asked for by itself. What happens to certificates meanwhile counts, whatever the rows said that were read before it.
#[derive(Debug)]
pub struct CertificateView {
    entries: RwLock<Entries>,
    first_use: mpsc::Sender<Fingerprint>,
    first_uses: Mutex<Option<mpsc::Receiver<Fingerprint>>>,
    wanted: mpsc::Sender<Wanted>,
    wants: Mutex<Option<mpsc::Receiver<Wanted>>>,
}

#[derive(Debug, Default)]
struct Entries {
    rows: HashMap<Fingerprint, CertificateEntry>,
    /// While rows are still missing: the new status of certificates that are not in yet. Bounded by the acts that
    /// change certificates in the seconds after a start, each a transaction of its own.
    filling: Option<HashMap<Fingerprint, CertificateStatus>>,
}

impl Default for CertificateView {
    fn default() -> Self {
        let (first_use, first_uses) = mpsc::channel(FIRST_USES_QUEUED);
        let (wanted, wants) = mpsc::channel(WANTED_QUEUED);
        Self {
            entries: RwLock::default(),
            first_use,
            first_uses: Mutex::new(Some(first_uses)),
            wanted,
            wants: Mutex::new(Some(wants)),
        }
    }
}

impl CertificateView {
    /// Adds or replaces a row.
    pub fn put(&self, entry: CertificateEntry) {
        self.write().rows.insert(entry.fingerprint, entry);
    }

    /// From now on rows are missing, and what is not here is unread. Returns the certificates that somebody waits
    /// for; there is one taker.
    pub fn begin_filling(&self) -> mpsc::Receiver<Wanted> {
        self.write().filling.get_or_insert_default();
        let taken = self.wants.lock().unwrap_or_else(PoisonError::into_inner).take();
        // As with first uses, a second taker sees its mistake at once.
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Adds rows as they were read. What is here already is newer.
    pub fn fill(&self, entries: impl IntoIterator<Item = CertificateEntry>) {
        let Entries { rows, filling } = &mut *self.write();
        for mut entry in entries {
            if let Some(status) = filling.as_mut().and_then(|changed| changed.remove(&entry.fingerprint)) {
                entry.set_status(status);
            }
            rows.entry(entry.fingerprint).or_insert(entry);
        }
    }

    /// Every row is here: what is not is unknown.
    pub fn end_filling(&self) {
        self.write().filling = None;
    }

    /// The row of a certificate.
    pub fn lookup(&self, fingerprint: Fingerprint) -> Option<CertificateEntry> {
        self.entries().rows.get(&fingerprint).cloned()
    }

    /// The same while the view is being filled: a row that is not here yet is waited for.
    pub async fn lookup_or_read(&self, fingerprint: Fingerprint) -> Option<CertificateEntry> {
        let is_unread = {
            let Entries { rows, filling } = &*self.entries();
            filling.is_some() && !rows.contains_key(&fingerprint)
        };
        if is_unread {
            let _ = self.read(fingerprint).await;
        }
        self.lookup(fingerprint)
    }

    /// Changes a row's status. A revoked certificate stays revoked.
    pub fn set_status(&self, fingerprint: Fingerprint, status: CertificateStatus) {
        let Entries { rows, filling } = &mut *self.write();
        if let Some(entry) = rows.get_mut(&fingerprint) {
            entry.set_status(status);
        } else if let Some(changed) = filling {
            let noted = changed.entry(fingerprint).or_insert(status);
            if *noted != CertificateStatus::Revoked {
                *noted = status;
            }
        }
    }

    /// Forgets certificates that ended before `now`; a door refuses them as expired by their own words.
    pub fn forget_expired(&self, now: Timestamp) {
        self.write().rows.retain(|_, entry| entry.not_after > now);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.entries().rows.len()
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

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CertificateEntry {
    fn set_status(&mut self, status: CertificateStatus) {
        if self.status != CertificateStatus::Revoked {
            self.status = status;
        }
    }
}

impl Admission for CertificateView {
    fn admit(&self, presented: &Presented, now: Timestamp) -> Result<Admitted, NotAdmitted> {
        let used = {
            let Entries { rows, filling } = &*self.entries();
            let absent = if filling.is_some() { NotAdmitted::Unread } else { NotAdmitted::Unknown };
            let entry = rows.get(&presented.fingerprint).ok_or(absent)?;
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
            && let Some(entry) = self.write().rows.get_mut(&presented.fingerprint)
        {
            entry.used = true;
        }
        Ok(Admitted {
            device: presented.device.clone(),
            fingerprint: presented.fingerprint,
            not_after: presented.not_after,
        })
    }

    fn read(&self, fingerprint: Fingerprint) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        // If the queue is full, or nobody reads any more, the receiver fails at once.
        let _ = self.wanted.try_send(Wanted { fingerprint, done });
        receiver
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

    fn read(&self, _: Fingerprint) -> oneshot::Receiver<()> {
        oneshot::channel().1
    }
}

const FIRST_USES_QUEUED: usize = 1024;
/// As many as may be in their handshakes at once: those who wait here hold a connection each.
const WANTED_QUEUED: usize = 8192;

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
    fn while_rows_are_missing_nobody_is_unknown_and_what_changed_meanwhile_counts() {
        let view = CertificateView::default();
        let mut wanted = view.begin_filling();
        assert_eq!(view.admit(&presented(), Timestamp(1)), Err(NotAdmitted::Unread));
        let mut read = view.read(Fingerprint([1; 32]));
        let want = wanted.try_recv().unwrap();
        assert_eq!(want.fingerprint, Fingerprint([1; 32]));
        // Revoked after its page was read and before the page is put in.
        view.set_status(Fingerprint([1; 32]), CertificateStatus::Revoked);
        view.set_status(Fingerprint([1; 32]), CertificateStatus::Retired);
        view.fill([entry(CertificateStatus::Active)]);
        want.done.send(()).unwrap();
        assert_eq!(read.try_recv(), Ok(()));
        assert_eq!(view.admit(&presented(), Timestamp(1)), Err(NotAdmitted::Revoked));
        // A row that was read before it changed comes late.
        view.fill([entry(CertificateStatus::Active)]);
        assert_eq!(view.admit(&presented(), Timestamp(1)), Err(NotAdmitted::Revoked));
        let other = Presented { fingerprint: Fingerprint([2; 32]), ..presented() };
        view.set_status(other.fingerprint, CertificateStatus::Retired);
        assert_eq!(view.admit(&other, Timestamp(1)), Err(NotAdmitted::Unread));
        view.end_filling();
        assert_eq!(view.admit(&other, Timestamp(1)), Err(NotAdmitted::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_before_its_row_is_admitted_by_the_row_or_not_at_all() {
        for (status, expected) in
            [(CertificateStatus::Active, Ok(())), (CertificateStatus::Revoked, Err(NotAdmitted::Revoked))]
        {
            let view = CertificateView::default();
            let mut wanted = view.begin_filling();
            let (admission, presented): (&dyn Admission, _) = (&view, presented());
            let asks = || admission.admit_or_read(&presented, Duration::from_secs(5), || Timestamp(1));
            assert_eq!(
                asks().await.map(drop),
                Err(NotAdmitted::Unread),
                "nobody reads: in time, and not let in"
            );
            drop(wanted.try_recv().unwrap());
            let reads = async {
                let want = wanted.recv().await.unwrap();
                view.fill([entry(status)]);
                want.done.send(()).unwrap();
            };
            assert_eq!(tokio::join!(asks(), reads).0.map(drop), expected);
        }
    }

    #[tokio::test]
    async fn a_row_that_nobody_will_read_is_not_waited_for() {
        let view = CertificateView::default();
        drop(view.begin_filling());
        assert_eq!(view.lookup_or_read(Fingerprint([1; 32])).await, None);
        view.put(entry(CertificateStatus::Active));
        assert!(view.lookup_or_read(Fingerprint([1; 32])).await.is_some());
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
