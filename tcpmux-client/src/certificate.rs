//! What the daemon reads out of certificates: whose, which key, from when until when.
//!
//! Trust is rustls' business; here a certificate is only read.

use model::{DeviceId, Fingerprint, Timestamp};

use crate::{
    calendar,
    der::{self, Malformed, Reader},
};

/// The facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// The serial number in hex.
    pub serial: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// The device that it names: its common name, where that is a device id.
    pub device: Option<DeviceId>,
    /// SubjectPublicKeyInfo.
    pub(crate) public_key_info: Vec<u8>,
}

/// A certificate that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate that can be read")]
pub struct UnreadableCertificate;

impl From<Malformed> for UnreadableCertificate {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl CertificateFacts {
    /// Reads a certificate's DER (RFC 5280 §4.1).
    ///
    /// # Errors
    /// If it is not a certificate.
    pub fn read(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        let mut whole = Reader::new(der);
        let mut fields = whole.enter(der::SEQUENCE)?.enter(der::SEQUENCE)?;
        if !whole.is_empty() {
            return Err(UnreadableCertificate);
        }
        if fields.next_tag() == Some(der::CONTEXT_0) {
            fields.element()?;
        }
        let serial = model::hex(fields.expect(der::INTEGER)?);
        fields.expect(der::SEQUENCE)?;
        fields.expect(der::SEQUENCE)?;
        let mut validity = fields.enter(der::SEQUENCE)?;
        let mut time = || {
            let element = validity.element()?;
            calendar::certificate_time(element.tag, element.content).ok_or(UnreadableCertificate)
        };
        let (not_before, not_after) = (time()?, time()?);
        let device = common_name(fields.enter(der::SEQUENCE)?)?.and_then(|name| name.parse().ok());
        let public_key_info = fields.element()?.whole.to_vec();
        Ok(Self { fingerprint: fingerprint(der), serial, not_before, not_after, device, public_key_info })
    }
}

/// SHA-256 of a certificate's DER.
pub(crate) fn fingerprint(der: &[u8]) -> Fingerprint {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 octets"))
}

fn common_name(mut subject: Reader<'_>) -> Result<Option<&str>, Malformed> {
    let mut found = None;
    while !subject.is_empty() {
        let mut set = subject.enter(der::SET)?;
        while !set.is_empty() {
            let mut attribute = set.enter(der::SEQUENCE)?;
            if attribute.expect(der::OBJECT_ID)? == der::COMMON_NAME {
                found = std::str::from_utf8(attribute.element()?.content).ok();
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData, date_time_ymd};

    use super::*;

    #[test]
    fn the_facts_of_a_certificate() {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "other");
        parameters.distinguished_name.push(DnType::CommonName, "cam-01");
        parameters.serial_number = Some(vec![1, 0xab].into());
        parameters.not_before = date_time_ymd(2026, 11, 21);
        parameters.not_after = date_time_ymd(2051, 2, 19);
        let certificate = parameters.self_signed(&key).unwrap();
        let facts = CertificateFacts::read(certificate.der()).unwrap();
        assert_eq!(facts.device.unwrap().as_str(), "cam-01");
        assert_eq!(facts.serial, "01ab");
        assert_eq!(facts.not_before.rfc3339(), "2026-11-21T00:00:00Z");
        assert_eq!(facts.not_after.rfc3339(), "2051-02-19T00:00:00Z");
        assert_eq!(facts.public_key_info, key.subject_public_key_info());
        assert_eq!(facts.fingerprint, fingerprint(certificate.der()));
    }

    #[test]
    fn every_cut_of_a_certificate_is_refused() {
        let certificate = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        let der = certificate.cert.der();
        assert!(CertificateFacts::read(der).is_ok());
        for length in 0..der.len() {
            assert_eq!(CertificateFacts::read(&der[..length]), Err(UnreadableCertificate));
        }
        assert!(CertificateFacts::read(&[&der[..], &[0]].concat()).is_err());
    }
}
