//! Certificates out of a certs-only PKCS#7 message (RFC 5652 §5, RFC 7030 §4.1.3).

use crate::der::{self, Malformed, Reader};

/// The certificates of a certs-only message. They are a SET: the order means nothing.
pub(crate) fn certificates(message: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut content_info = Reader::new(message).enter(der::SEQUENCE)?;
    if content_info.expect(der::OBJECT_ID)? != SIGNED_DATA {
        return Err(Malformed);
    }
    let mut signed = content_info.enter(der::CONTEXT_0)?.enter(der::SEQUENCE)?;
    signed.expect(der::INTEGER)?;
    signed.expect(der::SET)?;
    signed.expect(der::SEQUENCE)?;
    let mut set = signed.enter(der::CONTEXT_0)?;
    let mut certificates = vec![];
    while !set.is_empty() {
        if certificates.len() == MOST_CERTIFICATES {
            return Err(Malformed);
        }
        certificates.push(set.element()?.whole.to_vec());
    }
    Ok(certificates)
}

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// A root, its roll-over certificates and intermediates fit many times.
const MOST_CERTIFICATES: usize = 32;

/// Writes such a message, as a server does.
#[cfg(test)]
pub(crate) fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    let signed = der::element(
        der::SEQUENCE,
        &[
            &der::element(der::INTEGER, &[&[1]]),
            &der::element(der::SET, &[]),
            &der::element(der::SEQUENCE, &[&der::element(der::OBJECT_ID, &[DATA])]),
            &der::element(der::CONTEXT_0, certificates),
            &der::element(der::SET, &[]),
        ],
    );
    der::element(
        der::SEQUENCE,
        &[&der::element(der::OBJECT_ID, &[SIGNED_DATA]), &der::element(der::CONTEXT_0, &[&signed])],
    )
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn certificates_are_found_and_cuts_are_refused() {
        let (one, two) = (der::element(der::SEQUENCE, &[b"one"]), der::element(der::SEQUENCE, &[b"two"]));
        let message = certs_only(&[&one, &two]);
        assert_eq!(certificates(&message).unwrap(), [one, two]);
        for length in 0..message.len() {
            assert!(certificates(&message[..length]).is_err());
        }
    }

    #[test]
    fn too_many_certificates_are_refused() {
        let one = der::element(der::SEQUENCE, &[b"one"]);
        assert!(certificates(&certs_only(&vec![&one[..]; 32])).is_ok());
        assert!(certificates(&certs_only(&vec![&one[..]; 33])).is_err());
    }

    #[test]
    fn a_message_of_openssl_without_certificates_is_refused() {
        // `openssl crl2pkcs7 -nocrl -outform DER` without certificates.
        let message = BASE64_STANDARD.decode("MCMGCSqGSIb3DQEHAqAWMBQCAQExADALBgkqhkiG9w0BBwExAA==").unwrap();
        assert_eq!(certificates(&message), Err(Malformed));
    }
}
