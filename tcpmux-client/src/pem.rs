//! PEM as this daemon writes it (RFC 7468).

use base64::{Engine, prelude::BASE64_STANDARD};

/// One block of PEM, lines of 64 characters.
pub(crate) fn block(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text + "-----END " + label + "-----\n"
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, pem::PemObject};

    #[test]
    fn a_block_is_read_back() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let der = vec![9; length];
            let read = CertificateDer::from_pem_slice(super::block("CERTIFICATE", &der).as_bytes()).unwrap();
            assert_eq!(read.as_ref(), &der[..]);
        }
    }
}
