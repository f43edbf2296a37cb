//! Writes the little DER that certificates and revocation lists need.

use std::net::IpAddr;

use model::Timestamp;

use super::{oid, tag};

/// One element whose content is these parts in this order.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    push_length(&mut out, length);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(tag::SEQUENCE, parts)
}

/// An INTEGER of this magnitude, big-endian.
pub(crate) fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let zeros = magnitude.iter().take_while(|octet| **octet == 0).count();
    match &magnitude[zeros..] {
        [] => tlv(tag::INTEGER, &[&[0]]),
        digits @ [first, ..] if first & 0x80 != 0 => tlv(tag::INTEGER, &[&[0], digits]),
        digits => tlv(tag::INTEGER, &[digits]),
    }
}

/// A BIT STRING of whole octets.
pub(crate) fn bit_string(octets: &[u8]) -> Vec<u8> {
    tlv(tag::BIT_STRING, &[&[0], octets])
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let digits: String = at.rfc3339().chars().filter(char::is_ascii_digit).collect();
    let year: u32 = digits[..4].parse().expect("rfc3339 begins with a year of four digits");
    if (1950..2050).contains(&year) {
        tlv(tag::UTC_TIME, &[&digits.as_bytes()[2..], b"Z"])
    } else {
        tlv(tag::GENERALIZED_TIME, &[digits.as_bytes(), b"Z"])
    }
}

/// A Name of one CN, as UTF8String.
pub(crate) fn common_name(text: &str) -> Vec<u8> {
    let value = tlv(tag::UTF8_STRING, &[text.as_bytes()]);
    sequence(&[&tlv(tag::SET, &[&sequence(&[&tlv(tag::OID, &[oid::COMMON_NAME]), &value])])])
}

/// One Extension (RFC 5280 §4.1); `value` is the DER inside its OCTET STRING.
pub(crate) fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[tag::BOOLEAN, 1, 0xff] } else { &[] };
    sequence(&[&tlv(tag::OID, &[id]), flag, &tlv(tag::OCTET_STRING, &[value])])
}

/// A dNSName, an iPAddress (GeneralName, RFC 5280 §4.2.1.6).
pub(crate) fn dns_name(name: &str) -> Vec<u8> {
    tlv(tag::context(2), &[name.as_bytes()])
}

pub(crate) fn ip_address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => tlv(tag::context(7), &[&v4.octets()]),
        IpAddr::V6(v6) => tlv(tag::context(7), &[&v6.octets()]),
    }
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            let digits = &octets[zeros..];
            out.push(0x80 | u8::try_from(digits.len()).expect("a usize has at most eight octets"));
            out.extend_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_passes_the_strict_check() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let der = tlv(tag::OCTET_STRING, &[&vec![7; length]]);
            assert_eq!(crate::der::check(&der), Ok(()), "{length}");
        }
        for magnitude in [&[][..], &[0], &[0, 0, 1], &[0x80], &[0, 0xff, 0xff], &[0x7f]] {
            assert_eq!(crate::der::check(&unsigned(magnitude)), Ok(()), "{magnitude:?}");
        }
        assert_eq!(crate::der::check(&common_name("cam-01")), Ok(()));
    }

    #[test]
    fn years_after_2049_are_generalized_time() {
        assert_eq!(time(Timestamp::from_secs(2_524_607_999)), b"\x17\x0d491231235959Z");
        assert_eq!(time(Timestamp::from_secs(2_524_608_000)), b"\x18\x0f20500101000000Z");
    }
}
