//! Somebody with a key who asks for a certificate: one process with a thousand of them.

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::Value;
use tests::{Answer, Call, Cloud, Door, Identity};

/// A key, and what it asks with.
pub(super) struct Applicant {
    key: KeyPair,
}

impl Applicant {
    pub(super) fn new() -> Self {
        Self { key: KeyPair::generate().unwrap() }
    }

    /// The DER of a request with this CN, or without any name.
    pub(super) fn request(&self, common_name: Option<&str>) -> Vec<u8> {
        self.request_naming(common_name, &[])
    }

    /// The same with host names.
    pub(super) fn request_naming(&self, common_name: Option<&str>, dns_names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = dns_names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serialize_request(&self.key).unwrap().der().to_vec()
    }

    /// The nameless request in base64, as the body of a call.
    pub(super) fn body(&self) -> String {
        BASE64_STANDARD.encode(self.request(None))
    }

    /// What a handshake is made with: this key and the certificate it got.
    pub(super) fn identity(&self, certificate: &str) -> Identity {
        Identity::from_pem(certificate.as_bytes(), self.key_pem().as_bytes())
    }

    pub(super) fn key_pem(&self) -> String {
        let text = BASE64_STANDARD.encode(self.key.serialize_der());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    /// The call of a first enrolment, to be changed before it is sent.
    pub(super) fn enrolment(&self, door: &Door, user: &str, passcode: &str) -> Call {
        est(door, "simpleenroll").basic(user, passcode).body(self.body())
    }

    /// The call of a renewal; the door has to be one that shows a certificate.
    pub(super) fn renewal(&self, door: &Door) -> Call {
        est(door, "simplereenroll").body(self.body())
    }

    /// Enrols with a fresh passcode for this device; the certificate's PEM.
    pub(super) async fn enrol(&self, cloud: &Cloud, device: &str) -> String {
        let passcode = cloud.passcode(device).await;
        let answer = self.enrolment(&cloud.device(), device, &passcode).send().await;
        answer.expect(200).await.text().await
    }
}

/// A device that exists: its key, its certificate.
pub(super) async fn enrolled(cloud: &Cloud, device: &str) -> (Applicant, String) {
    let applicant = Applicant::new();
    let certificate = applicant.enrol(cloud, device).await;
    (applicant, certificate)
}

/// A POST of EST whose answer, if it is a certificate, comes as PEM.
pub(super) fn est(door: &Door, operation: &str) -> Call {
    door.post(&format!("/.well-known/est/{operation}"))
        .header("content-type", "application/pkcs10")
        .header("accept", "application/x-pem-file")
}

/// Status and the stable word of an EST refusal, as in `400 csr-signature`.
pub(super) async fn refusal(answer: Answer) -> String {
    let status = answer.status.as_u16();
    let is_text = answer.header("content-type").starts_with("text/plain");
    assert!(is_text, "{status} with {}", answer.header("content-type"));
    let text = answer.text().await;
    format!("{status} {}", text.split(':').next().unwrap())
}

/// Every certificate of the default tenant's devices, as the registry shows them.
pub(super) async fn registry(cloud: &Cloud) -> Vec<Value> {
    let listed = cloud.administer(http::Method::GET, "/admin/api/certificates?limit=500", Value::Null).await;
    assert!(listed["next_cursor"].is_null(), "more than a page");
    listed["items"].as_array().unwrap().clone()
}

/// The registry's rows of one device.
pub(super) async fn certificates_of(cloud: &Cloud, device: &str) -> Vec<Value> {
    registry(cloud).await.into_iter().filter(|row| row["device"] == device).collect()
}

/// A certificate's fingerprint as the registry writes it.
pub(super) fn fingerprint(certificate: &str) -> String {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    model::hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der).as_ref())
}

/// Takes a certificate back; the receipt.
pub(super) async fn revoke(cloud: &Cloud, certificate: &str, reason: &str) -> Value {
    let path = format!("/admin/api/certificates/{}/revoke", fingerprint(certificate));
    cloud.administer(http::Method::POST, &path, serde_json::json!({"reason": reason})).await
}
