//! The device's key: made here, never leaves.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use model::{DeviceId, Secret};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use crate::{der, pem};

/// A P-256 key.
#[derive(Debug)]
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Secret<Vec<u8>>,
}

/// The key file does not hold a P-256 key in PKCS#8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 key in PKCS#8 PEM")]
pub(crate) struct NotAKey;

impl Key {
    /// Makes a new one.
    pub(crate) fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .expect("the operating system gives random bytes");
        let pkcs8 = pair.to_pkcs8v1().expect("a key that was just made can be written");
        Self { pair, pkcs8: Secret::new(pkcs8.as_ref().to_vec()) }
    }

    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, NotAKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| NotAKey)?;
        let pkcs8 = der.secret_pkcs8_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|_| NotAKey)?;
        Ok(Self { pair, pkcs8: Secret::new(pkcs8.to_vec()) })
    }

    /// The key in PEM. A secret: for the key file alone.
    pub(crate) fn to_pem(&self) -> Secret<String> {
        Secret::new(pem::block("PRIVATE KEY", self.pkcs8.expose()))
    }

    /// SubjectPublicKeyInfo (RFC 5480 §2).
    pub(crate) fn public_key_info(&self) -> Vec<u8> {
        let algorithm = der::element(
            der::SEQUENCE,
            &[&der::element(der::OBJECT_ID, &[EC_PUBLIC_KEY]), &der::element(der::OBJECT_ID, &[PRIME256V1])],
        );
        let point = der::element(der::BIT_STRING, &[&[0], self.pair.public_key().as_ref()]);
        der::element(der::SEQUENCE, &[&algorithm, &point])
    }

    /// A PKCS#10 request (RFC 2986) that names this device, or nobody, and asks for nothing else.
    pub(crate) fn certificate_request(&self, device: Option<&DeviceId>) -> Vec<u8> {
        let names = device.map_or_else(Vec::new, |device| {
            let name = der::element(
                der::SEQUENCE,
                &[
                    &der::element(der::OBJECT_ID, &[der::COMMON_NAME]),
                    &der::element(der::UTF8_STRING, &[device.as_str().as_bytes()]),
                ],
            );
            der::element(der::SET, &[&name])
        });
        let to_be_signed = der::element(
            der::SEQUENCE,
            &[
                &der::element(der::INTEGER, &[&[0]]),
                &der::element(der::SEQUENCE, &[&names]),
                &self.public_key_info(),
                &der::element(der::CONTEXT_0, &[]),
            ],
        );
        let signature = self.pair.sign(&SystemRandom::new(), &to_be_signed).expect("a P-256 key signs");
        let algorithm = der::element(der::SEQUENCE, &[&der::element(der::OBJECT_ID, &[ECDSA_WITH_SHA256])]);
        let signature = der::element(der::BIT_STRING, &[&[0], signature.as_ref()]);
        der::element(der::SEQUENCE, &[&to_be_signed, &algorithm, &signature])
    }
}

/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.2.840.10045.4.3.2
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

#[cfg(test)]
mod tests {
    use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

    use super::*;

    #[test]
    fn a_request_names_the_device_and_proves_the_key() {
        let key = Key::generate();
        let device = "cam-01".parse().unwrap();
        let der = key.certificate_request(Some(&device));
        let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        request.verify_signature().unwrap();
        let info = &request.certification_request_info;
        assert_eq!(info.subject.to_string(), "CN=cam-01");
        assert_eq!(info.subject_pki.raw, key.public_key_info());
        assert_eq!(info.attributes().len(), 0);
    }

    #[test]
    fn a_request_can_leave_the_name_to_the_passcode() {
        let der = Key::generate().certificate_request(None);
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        request.verify_signature().unwrap();
        assert_eq!(request.certification_request_info.subject.iter().count(), 0);
    }

    #[test]
    fn a_key_survives_its_file() {
        let key = Key::generate();
        let read = Key::from_pem(key.to_pem().expose().as_bytes()).unwrap();
        assert_eq!(read.public_key_info(), key.public_key_info());
        assert_ne!(read.public_key_info(), Key::generate().public_key_info());
        assert!(Key::from_pem(b"nonsense").is_err());
    }

    #[test]
    fn printing_a_key_hides_it() {
        let key = Key::generate();
        let text = format!("{key:?}");
        assert!(!text.contains(&model::hex(&key.pkcs8.expose()[36..60])) && text.contains("Secret(…)"));
    }
}
