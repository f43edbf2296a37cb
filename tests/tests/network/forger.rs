//! Somebody who makes certificates: with a cloud's own CA keys, stolen, or with keys and names as theirs.

use http::Method;
use model::Serial;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tests::{Cloud, Identity};

/// A signer of certificates.
pub(super) struct Forger {
    issuer: Issuer<'static, KeyPair>,
    /// What a server sends after its leaf.
    certificate: CertificateDer<'static>,
}

/// What a certificate says.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) common_name: String,
    pub(super) dns_names: Vec<String>,
    pub(super) purposes: Vec<ExtendedKeyUsagePurpose>,
    pub(super) is_ca: bool,
    pub(super) first_year: i32,
    pub(super) end_year: i32,
}

impl Forger {
    /// Has the key file of one of a cloud's issuers: `devices` or `services`.
    pub(super) async fn with_stolen_key(cloud: &Cloud, name: &str) -> Self {
        let directory = cloud.data().join("ca");
        let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key"))).unwrap();
        let certificate = CertificateDer::from_pem_file(directory.join(format!("{name}.crt"))).unwrap();
        Self::named(&issuer_name(cloud, name).await, KeyPair::try_from(&key).unwrap(), certificate)
    }

    /// Has a key of its own, and says that it is the cloud's issuer.
    pub(super) async fn self_made(cloud: &Cloud, name: &str) -> Self {
        let text = issuer_name(cloud, name).await;
        let key = KeyPair::generate().unwrap();
        let mut params = params(&text, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self::named(&text, key, certificate)
    }

    /// A certificate for a fresh key.
    pub(super) fn sign(&self, leaf: &Leaf) -> Identity {
        let (certificate, key) = self.make(leaf);
        Identity::from_der(vec![certificate], key)
    }

    /// The same, with the issuer's certificate behind the leaf, as a server shows it.
    pub(super) fn sign_server(&self, leaf: &Leaf) -> Identity {
        let (certificate, key) = self.make(leaf);
        Identity::from_der(vec![certificate, self.certificate.clone()], key)
    }

    fn make(&self, leaf: &Leaf) -> (CertificateDer<'static>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&leaf.common_name, &leaf.dns_names);
        params.is_ca =
            if leaf.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&leaf.purposes);
        params.not_before = date_time_ymd(leaf.first_year, 1, 1);
        params.not_after = date_time_ymd(leaf.end_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key.serialize_der())
    }

    fn named(name: &str, key: KeyPair, certificate: CertificateDer<'static>) -> Self {
        Self { issuer: Issuer::new(params(name, &[]), key), certificate }
    }
}

impl Leaf {
    /// What the profile of a device says, for a cloud's deployment.
    pub(super) async fn of_device(cloud: &Cloud, device: &str) -> Self {
        let domain = domain(cloud).await;
        Self {
            common_name: device.into(),
            dns_names: vec![format!("{device}.default.device.{domain}")],
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
            is_ca: false,
            first_year: 2020,
            end_year: 2040,
        }
    }

    /// What a door's certificate says.
    pub(super) fn of_server(name: &str) -> Self {
        Self {
            common_name: name.into(),
            dns_names: vec![name.into(), "127.0.0.1".into()],
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            is_ca: false,
            first_year: 2020,
            end_year: 2040,
        }
    }
}

/// The deployment domain in a cloud's device certificates.
pub(super) async fn domain(cloud: &Cloud) -> String {
    let ca = cloud.administer(Method::GET, "/admin/api/ca", Value::Null).await;
    ca["domain"].as_str().unwrap().to_owned()
}

async fn issuer_name(cloud: &Cloud, name: &str) -> String {
    format!("tcpmux {name} {}", domain(cloud).await)
}

fn params(common_name: &str, dns_names: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(dns_names.to_vec()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // As the product's own serials look, so that this is not what a forgery is refused for.
    let serial = Serial::from_random(1, runtime::random::bytes());
    params.serial_number = Some(SerialNumber::from_slice(&serial.0));
    params
}
