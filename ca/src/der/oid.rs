//! Object identifiers, as the octets inside their OBJECT IDENTIFIER element.

/// 2.5.4.3
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// 1.2.840.113549.1.9.14
pub(crate) const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// 1.3.6.1.4.1.311.2.1.14: the same thing under a vendor's number.
pub(crate) const MICROSOFT_EXTENSION_REQUEST: &[u8] =
    &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];
/// 1.2.840.113549.1.9.7
pub(crate) const CHALLENGE_PASSWORD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07];
/// 1.3.6.1.5.5.7.7.36 (RFC 6402 §2.8)
pub(crate) const CHANGE_SUBJECT_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x07, 0x24];

/// 2.5.29.14
pub(crate) const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
/// 2.5.29.15
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.17
pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.29.19
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// 2.5.29.30
pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
/// 2.5.29.31
pub(crate) const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];
/// 2.5.29.35
pub(crate) const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
/// 2.5.29.37
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// 1.3.6.1.5.5.7.3.2
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// 1.2.840.113549.1.7.1
pub(crate) const PKCS7_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.7.2
pub(crate) const PKCS7_SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// The dotted form, for messages; arcs beyond 64 bits are shown as `?`.
pub(crate) fn dotted(octets: &[u8]) -> String {
    let mut arcs: Vec<String> = Vec::new();
    for (index, arc) in octets.split_inclusive(|octet| octet & 0x80 == 0).enumerate() {
        let value =
            (arc.len() <= 9).then(|| arc.iter().fold(0u64, |sum, octet| sum << 7 | u64::from(octet & 0x7f)));
        match value {
            Some(first) if index == 0 => {
                let root = (first / 40).min(2);
                arcs.push(root.to_string());
                arcs.push((first - root * 40).to_string());
            }
            Some(value) => arcs.push(value.to_string()),
            None => arcs.push("?".into()),
        }
        if arcs.len() > 20 {
            arcs.push("…".into());
            break;
        }
    }
    arcs.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_the_numbers_they_are_said_to_be() {
        for (octets, text) in [
            (COMMON_NAME, "2.5.4.3"),
            (EXTENSION_REQUEST, "1.2.840.113549.1.9.14"),
            (MICROSOFT_EXTENSION_REQUEST, "1.3.6.1.4.1.311.2.1.14"),
            (CHALLENGE_PASSWORD, "1.2.840.113549.1.9.7"),
            (CHANGE_SUBJECT_NAME, "1.3.6.1.5.5.7.7.36"),
            (NAME_CONSTRAINTS, "2.5.29.30"),
            (CRL_DISTRIBUTION_POINTS, "2.5.29.31"),
            (AUTHORITY_KEY_IDENTIFIER, "2.5.29.35"),
            (EXTENDED_KEY_USAGE, "2.5.29.37"),
            (CLIENT_AUTH, "1.3.6.1.5.5.7.3.2"),
            (PKCS7_SIGNED_DATA, "1.2.840.113549.1.7.2"),
        ] {
            assert_eq!(dotted(octets), text);
        }
    }
}
