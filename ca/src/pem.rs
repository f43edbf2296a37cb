//! Textual encodings (RFC 7468), strictly.

use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;

/// Label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// Label of an unencrypted PKCS#8 key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Label of a certs-only CMS.
pub const PKCS7: &str = "PKCS7";
/// Label of a certificate revocation list.
pub const X509_CRL: &str = "X509 CRL";
/// Label of a certificate request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";

/// Why a text is not PEM of the expected label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No block, a block of another label, or text between blocks that is not white space.
    #[error("the text is not a PEM block of the expected label")]
    Label,
    /// What is inside a block is not base64.
    #[error("the PEM block does not hold base64")]
    Base64,
    /// More than 1 MiB, or more than 64 blocks.
    #[error("the PEM text is too large")]
    TooLarge,
}

/// Writes one block with lines of 64 characters and a final newline.
pub fn encode(label: &str, der: &[u8]) -> String {
    // What is left in memory after a private key passed here is wiped; the size is reserved, so that
    // growing leaves no copy behind.
    let text = Secret::new(STANDARD.encode(der));
    let mut out = String::with_capacity(text.expose().len() * 66 / 64 + 2 * label.len() + 40);
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.expose().as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Reads all blocks, which must all have this label; at least one.
pub fn decode_all(label: &str, text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    if text.len() > 1 << 20 {
        return Err(PemError::TooLarge);
    }
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks = Vec::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let body = rest.strip_prefix(&begin).ok_or(PemError::Label)?;
        let (body, tail) = body.split_once(&end).ok_or(PemError::Label)?;
        let mut packed = Vec::with_capacity(body.len());
        packed.extend(body.bytes().filter(|octet| !octet.is_ascii_whitespace()));
        let packed = Secret::new(packed);
        blocks.push(STANDARD.decode(packed.expose()).map_err(|_| PemError::Base64)?);
        if blocks.len() > 64 {
            return Err(PemError::TooLarge);
        }
        rest = tail.trim_ascii_start();
    }
    if blocks.is_empty() { Err(PemError::Label) } else { Ok(blocks) }
}

/// Reads a text of exactly one block.
pub fn decode(label: &str, text: &str) -> Result<Vec<u8>, PemError> {
    let mut blocks = decode_all(label, text)?;
    match (blocks.pop(), blocks.is_empty()) {
        (Some(block), true) => Ok(block),
        _ => Err(PemError::Label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back() {
        for length in [0, 1, 47, 48, 49, 96, 1000] {
            let der = vec![0xa5; length];
            let text = encode(CERTIFICATE, &der);
            assert!(text.lines().all(|line| line.len() <= 64) && text.ends_with("-----\n"));
            assert_eq!(decode(CERTIFICATE, &text), Ok(der.clone()));
            assert_eq!(decode_all(CERTIFICATE, &format!("{text}{text}")), Ok(vec![der.clone(), der]));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let good = encode(CERTIFICATE, b"abc");
        for (text, error) in [
            (String::new(), PemError::Label),
            (encode(PRIVATE_KEY, b"abc"), PemError::Label),
            (format!("hello\n{good}"), PemError::Label),
            (format!("{good}{good}"), PemError::Label),
            (good.replace("YWJj", "YWJ!"), PemError::Base64),
            (good.replace("-----END", "-----FIN"), PemError::Label),
            (" ".repeat((1 << 20) + 1), PemError::TooLarge),
        ] {
            assert_eq!(decode(CERTIFICATE, &text), Err(error), "{text:.60?}");
        }
    }
}
