//! A certificate authority for tests: root, an intermediate for servers, one for devices.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{certificate::fingerprint, der};

pub(crate) struct Pki {
    root: CertificateDer<'static>,
    services: (CertificateDer<'static>, Issuer<'static, KeyPair>),
    devices: (CertificateDer<'static>, Issuer<'static, KeyPair>),
}

/// From when until when, as (year, month, day).
pub(crate) type Validity = ((i32, u8, u8), (i32, u8, u8));

pub(crate) const ALWAYS: Validity = ((2020, 1, 1), (2120, 1, 1));

struct Public<'a>(&'a [u8]);

impl PublicKeyData for Public<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = authority(&format!("test root {}", model::hex(&runtime::random::bytes::<4>())));
        let root = parameters.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(parameters, key);
        let intermediate = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let parameters = authority(name);
            let der = parameters.signed_by(&key, &issuer).unwrap().der().clone();
            (der, Issuer::new(parameters, key))
        };
        let (services, devices) = (intermediate("test services"), intermediate("test devices"));
        Self { root, services, devices }
    }

    pub(crate) fn root_der(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    pub(crate) fn root_fingerprint(&self) -> model::Fingerprint {
        fingerprint(&self.root)
    }

    pub(crate) fn devices_der(&self) -> CertificateDer<'static> {
        self.devices.0.clone()
    }

    /// A server's chain and key.
    pub(crate) fn server(
        &self,
        names: &[&str],
        validity: Validity,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut parameters, validity);
        let leaf = parameters.signed_by(&key, &self.services.1).unwrap().der().clone();
        (vec![leaf, self.services.0.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// A device's certificate for the public key of a request.
    pub(crate) fn device_certificate(&self, device: &str, public_key_info: &[u8]) -> Vec<u8> {
        self.device_certificate_valid(device, public_key_info, ALWAYS)
    }

    pub(crate) fn device_certificate_valid(
        &self,
        device: &str,
        public_key_info: &[u8],
        validity: Validity,
    ) -> Vec<u8> {
        let mut parameters =
            CertificateParams::new(vec![format!("{device}.default.device.test.tcpmux.internal")]).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, device);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.serial_number = Some(runtime::random::bytes::<8>().to_vec().into());
        set_validity(&mut parameters, validity);
        let mut info = der::Reader::new(public_key_info).enter(der::SEQUENCE).unwrap();
        info.expect(der::SEQUENCE).unwrap();
        let point = &info.expect(der::BIT_STRING).unwrap()[1..];
        parameters.signed_by(&Public(point), &self.devices.1).unwrap().der().to_vec()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut parameters, ALWAYS);
    parameters
}

fn set_validity(parameters: &mut CertificateParams, (from, until): Validity) {
    parameters.not_before = date_time_ymd(from.0, from.1, from.2);
    parameters.not_after = date_time_ymd(until.0, until.1, until.2);
}
