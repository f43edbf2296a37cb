//! Targets of the fuzzer in this room: what EST clients send.

use ca::CertificateRequest;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use crate::{base64_body, est};

/// A body of base64 and the request inside it: what is read and wrapped again is the same, in both wrappings.
pub fn body(bytes: &[u8]) {
    let Some(der) = base64_body::decode(bytes) else { return };
    assert!(der.len() <= bytes.len());
    for text in [base64_body::one_line(&der), base64_body::wrapped(&der)] {
        // Nothing at all is no body.
        assert_eq!(base64_body::decode(text.as_bytes()).unwrap_or_default(), der);
    }
    if let Ok(request) = CertificateRequest::parse(&der) {
        assert!(der.len() <= CertificateRequest::LARGEST && !request.spki_der().is_empty());
    }
}

/// `Authorization` fields, one a line: at most one that counts, read exactly.
pub fn credentials(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(4) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(AUTHORIZATION, value);
        }
    }
    let Ok(Some(found)) = est::credentials(&headers) else { return };
    assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1, "of two credentials none counts");
    assert!(!found.user.contains(':'));
    assert!(found.password.expose().len() + found.user.len() < 1024);
}
