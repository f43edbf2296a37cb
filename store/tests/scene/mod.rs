//! A store with passcodes and devices in it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file takes what it needs")]

use std::time::Duration;

use model::{
    Actor, CertificateStatus, DeviceRef, Fingerprint, PasscodeDigest, Serial, TenantName, Timestamp,
};
use store::{
    Intent, IssuanceRow, IssuerName, NewPasscode, Redemption, RedemptionRequest, Renewal, RenewalRequest,
    Store, Subject,
};

pub struct Scene {
    pub store: Store,
    folder: tempfile::TempDir,
}

pub const DAY: Duration = Duration::from_secs(86_400);
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);

pub fn device(name: &str) -> DeviceRef {
    DeviceRef::new(TenantName::default(), name.parse().unwrap())
}

/// Every serial is another, whoever asks.
fn serial() -> Serial {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut random = [0; 17];
    random[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Serial::from_random(1, random)
}

pub fn intent(name: &str, grounds: u8, key: u8) -> Intent {
    let serial = serial();
    let mut idempotency = [grounds; 32];
    idempotency[31] = key;
    Intent {
        serial,
        issuer: IssuerName::Devices,
        subject: Subject::Device(device(name)),
        spki_sha256: [key; 32],
        tbs: serial.0.to_vec(),
        not_before: START,
        not_after: START.plus(DAY * 90),
        idempotency,
    }
}

impl Scene {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tcpmux.db")).await.unwrap();
        Self { store, folder }
    }

    /// As after a kill: nothing is closed, the file is opened again.
    pub async fn reopened(&self) -> Store {
        Store::open(&self.folder.path().join("tcpmux.db")).await.unwrap()
    }

    pub async fn passcode(&self, number: u8, device: Option<&str>) -> PasscodeDigest {
        let digest = PasscodeDigest([number; 32]);
        let new = NewPasscode {
            id: format!("pc_{number}"),
            digest,
            tenant: TenantName::default(),
            device: device.map(|name| name.parse().unwrap()),
            expires_at: START.plus(Duration::from_secs(3600)),
        };
        self.store.add_passcode(new, &Actor::System, START).await.unwrap();
        digest
    }

    pub async fn redeem(&self, digest: PasscodeDigest, name: &str, key: u8, at: Timestamp) -> Redemption {
        let intent = intent(name, digest.0[0], key);
        let request = RedemptionRequest { digest, intent, window: DAY, source: "192.0.2.1".into() };
        self.store.redeem_passcode(request, at).await.unwrap()
    }

    pub async fn record(&self, row: &IssuanceRow, at: Timestamp) -> IssuanceRow {
        let mut fingerprint = [0; 32];
        fingerprint[..18].copy_from_slice(&row.certificate.serial.0);
        let der = [&row.tbs[..], b"signed"].concat();
        self.store.record_issued(row.certificate.serial, der, Fingerprint(fingerprint), at).await.unwrap()
    }

    /// A device with a certificate of this key.
    pub async fn enrol(&self, name: &str, key: u8) -> Fingerprint {
        let digest = self.passcode(key, None).await;
        let Redemption::Intended(row) = self.redeem(digest, name, key, START).await else {
            panic!("not intended")
        };
        let row = self.record(&row, START).await;
        assert_eq!(row.certificate.status, CertificateStatus::Active);
        row.certificate.fingerprint.unwrap()
    }

    pub async fn renew(&self, name: &str, parent: Fingerprint, key: u8, at: Timestamp) -> Renewal {
        let intent = intent(name, parent.0[8], key);
        let request =
            RenewalRequest { parent, intent, window: DAY, per: Duration::from_secs(3600), at_most: 3 };
        self.store.renew_certificate(request, at).await.unwrap()
    }
}
