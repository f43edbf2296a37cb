//! DER as EST carries it: base64, with the line breaks that real clients need (RFC 8951 §3).

use base64::{Engine, engine::general_purpose::STANDARD};

/// Reads a request's body. Spaces, tabs and line ends may be anywhere; the rest is canonical base64
/// with padding.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = body.iter().copied().filter(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')).collect();
    if text.is_empty() {
        return None;
    }
    STANDARD.decode(text).ok()
}

/// One line and its end: what both strongSwan (which fails on wrapped text) and libest (which needs
/// the final line end) take.
pub(crate) fn one_line(der: &[u8]) -> String {
    let mut text = STANDARD.encode(der);
    text.push('\n');
    text
}

/// Lines of 64 characters, which libest alone needs, and only for long answers.
pub(crate) fn wrapped(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_taken_anywhere_and_nothing_else_is() {
        for good in ["aGVsbG8=", "aGVs\r\nbG8=\r\n", " aGVs\tbG8 =", "a G V s b G 8 =\n"] {
            assert_eq!(decode(good.as_bytes()).as_deref(), Some(&b"hello"[..]), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "aGVsbG8",
            "aGVsbG9=",
            "aGVsbG8=aGVsbG8=",
            "aGVs-G8=",
            "aG=sbG8=",
            "aGVsbG8=\0",
            "aGVsbG8=é",
            "-----BEGIN CERTIFICATE REQUEST-----\naGVsbG8=\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(decode(&[0x30, 0x82, 0x01, 0x00]), None);
    }

    #[test]
    fn lines_end_where_the_clients_need_it() {
        let der = vec![7; 100];
        assert_eq!(one_line(&der).lines().count(), 1);
        assert!(one_line(&der).ends_with("=\n"));
        assert_eq!(wrapped(&der).lines().map(str::len).collect::<Vec<_>>(), [64, 64, 8]);
        assert!(wrapped(&der).ends_with('\n'));
    }
}
