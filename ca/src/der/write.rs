//! Writes the little DER that is put around what rcgen writes, and that its work is compared with.

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

/// A BIT STRING of whole octets.
pub(crate) fn bit_string(octets: &[u8]) -> Vec<u8> {
    tlv(tag::BIT_STRING, &[&[0], octets])
}

/// A Name of one CN, as UTF8String.
pub(crate) fn common_name(text: &str) -> Vec<u8> {
    let value = tlv(tag::UTF8_STRING, &[text.as_bytes()]);
    sequence(&[&tlv(tag::SET, &[&sequence(&[&tlv(tag::OID, &[oid::COMMON_NAME]), &value])])])
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
        assert_eq!(crate::der::check(&bit_string(&[1, 2, 3])), Ok(()));
        assert_eq!(crate::der::check(&common_name("cam-01")), Ok(()));
    }
}
