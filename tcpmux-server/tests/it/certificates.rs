//! A small CA for tests.

use std::time::Duration;

use model::{DeviceRef, Fingerprint, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

/// The deployment's domain in certificates.
pub(crate) const DOMAIN: &str = "abcd2345.tcpmux.internal";

/// When the tests begin.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) device: DeviceRef,
    pub(crate) der: Vec<u8>,
    pub(crate) key: KeyPair,
    pub(crate) not_after: Timestamp,
}

impl Issued {
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        ca::DeviceCertificate::read(&self.der).unwrap().fingerprint()
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A certificate as this deployment issues it, valid for 90 days.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_for(name, Duration::from_secs(90 * 86_400))
    }

    pub(crate) fn issue_for(&self, name: &str, validity: Duration) -> Issued {
        self.sign(name, START.plus(validity), |_| {})
    }

    /// The same, changed.
    pub(crate) fn sign(
        &self,
        name: &str,
        not_after: Timestamp,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let device = DeviceRef::new(model::TenantName::default(), name.parse().unwrap());
        let domain: ca::DeploymentDomain = DOMAIN.parse().unwrap();
        let mut params = device_params(&device, &domain.device_name(&device));
        params.not_before = moment(START.minus(Duration::from_secs(3600)));
        params.not_after = moment(not_after);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.0).unwrap().der().to_vec();
        Issued { device, der, key, not_after }
    }

    /// A certificate for the device door itself.
    pub(crate) fn server(&self) -> (Vec<u8>, KeyPair) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().der().to_vec(), key)
    }
}

fn device_params(device: &DeviceRef, san: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, device.device.as_str());
    params.distinguished_name = name;
    params.subject_alt_names = vec![SanType::DnsName(san.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    let mut serial = runtime::random::bytes::<18>();
    serial[0] = 1;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

pub(crate) fn moment(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.secs()).unwrap()
}
