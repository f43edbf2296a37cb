//! Requests, certificates and their wrapping, as strangers send them.

use ca::{CaCertificate, CertificateRequest, DeviceCertificate, PublicKey};
use tcpmux_client::CertificateFacts;

/// A request that is taken was signed by its own key and is within the limits.
pub(super) fn request(bytes: &[u8]) {
    if let Ok(request) = CertificateRequest::parse(bytes) {
        assert!(bytes.len() <= CertificateRequest::LARGEST);
        let key = PublicKey::from_spki(request.spki_der()).expect("its key was read before");
        assert_eq!(key.spki_der(), request.spki_der());
        let again = CertificateRequest::parse(bytes).expect("it was read before");
        assert_eq!(again.spki_sha256(), request.spki_sha256());
        assert_eq!((again.common_name(), again.dns_names()), (request.common_name(), request.dns_names()));
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(CertificateRequest::parse(&longer).is_err(), "nothing may follow a request");
    }
    if let Ok(key) = PublicKey::from_spki(bytes) {
        assert_eq!(key.spki_der(), bytes);
    }
}

/// Certificates that somebody shows: read or refused, by both sides of the door.
pub(super) fn certificate(bytes: &[u8]) {
    let _ = DeviceCertificate::read(bytes);
    let _ = CertificateFacts::read(bytes);
    if let Ok(authority) = CaCertificate::read(bytes) {
        assert_eq!(authority.der(), bytes);
    }
}

/// PEM: what is unwrapped and wrapped again is the same.
pub(super) fn pem(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for label in ["CERTIFICATE", "PRIVATE KEY"] {
        if let Ok(blocks) = ca::pem::decode_all(label, text) {
            assert!((1..=64).contains(&blocks.len()));
            let again: String = blocks.iter().map(|block| ca::pem::encode(label, block)).collect();
            assert_eq!(ca::pem::decode_all(label, &again).as_ref(), Ok(&blocks));
        }
    }
}
