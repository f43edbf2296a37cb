//! The one pass over all bytes that holds them to DER before anything reads their meaning.

use super::{DerError, Element, Reader, tag};

/// Refuses input that is not exactly one DER element, well formed down to every leaf.
pub(crate) fn check(der: &[u8]) -> Result<(), DerError> {
    let mut reader = Reader::new(der);
    let element = reader.next()?;
    reader.finish()?;
    check_element(&element, 1)
}

/// Whether the elements inside stand in the order of their encodings (X.690 §11.6).
pub(crate) fn is_sorted_set(set: &Element<'_>) -> Result<bool, DerError> {
    let mut reader = set.reader();
    let mut previous: &[u8] = &[];
    while !reader.is_empty() {
        let element = reader.next()?;
        if element.whole < previous {
            return Ok(false);
        }
        previous = element.whole;
    }
    Ok(true)
}

fn check_element(element: &Element<'_>, depth: usize) -> Result<(), DerError> {
    if depth > DEEPEST {
        return Err(element.fault("nested deeper than 16 levels"));
    }
    match element.tag >> 6 {
        0 => check_universal(element)?,
        2 => {}
        _ => return Err(element.fault("a tag of the application or private class")),
    }
    if !element.is_constructed() {
        return Ok(());
    }
    let mut reader = element.reader();
    while !reader.is_empty() {
        check_element(&reader.next()?, depth + 1)?;
    }
    Ok(())
}

fn check_universal(element: &Element<'_>) -> Result<(), DerError> {
    let content = element.content;
    let fault = match element.tag {
        tag::BOOLEAN if !matches!(content, [0x00 | 0xff]) => "a BOOLEAN that is neither 00 nor FF",
        tag::INTEGER | tag::ENUMERATED if !is_shortest_integer(content) => {
            "an INTEGER that is not in its shortest form"
        }
        tag::BIT_STRING if !is_bit_string(content) => "a BIT STRING with wrong unused bits",
        tag::NULL if !content.is_empty() => "a NULL with content",
        tag::OID if !is_object_identifier(content) => "a malformed OBJECT IDENTIFIER",
        tag::UTF8_STRING if std::str::from_utf8(content).is_err() => "a UTF8String that is not UTF-8",
        tag::SET if !is_sorted_set(element)? => "a SET OF that is not in order",
        tag::BOOLEAN
        | tag::INTEGER
        | tag::ENUMERATED
        | tag::BIT_STRING
        | tag::OCTET_STRING
        | tag::NULL
        | tag::OID
        | tag::UTF8_STRING
        | tag::SEQUENCE
        | tag::SET => return Ok(()),
        other if OTHER_STRINGS_AND_TIMES.contains(&other) => return Ok(()),
        _ => "a type that has no place here",
    };
    Err(element.fault(fault))
}

fn is_shortest_integer(content: &[u8]) -> bool {
    match content {
        [] => false,
        [0x00, next, ..] => next & 0x80 != 0,
        [0xff, next, ..] => next & 0x80 == 0,
        _ => true,
    }
}

fn is_bit_string(content: &[u8]) -> bool {
    match content {
        [0] => true,
        [unused @ 0..=7, .., last] => last & ((1 << unused) - 1) == 0,
        _ => false,
    }
}

fn is_object_identifier(content: &[u8]) -> bool {
    let mut begins = true;
    for octet in content {
        // An arc that begins with 0x80 has a needless leading zero (X.690 §8.19.2).
        if begins && *octet == 0x80 {
            return false;
        }
        begins = octet & 0x80 == 0;
    }
    begins && !content.is_empty()
}

const DEEPEST: usize = 16;

/// NumericString, PrintableString, TeletexString, IA5String, UTCTime, GeneralizedTime, VisibleString,
/// UniversalString, BMPString: well formed as bytes; whoever reads one checks its characters.
const OTHER_STRINGS_AND_TIMES: [u8; 9] = [0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1a, 0x1c, 0x1e];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_encoding_of_a_value_passes() {
        let cases: &[(&[u8], bool)] = &[
            (&[0x30, 0x03, 0x02, 0x01, 0x00], true),
            (&[0x01, 0x01, 0xff], true),
            (&[0x01, 0x01, 0x01], false),
            (&[0x02, 0x02, 0x00, 0x01], false),
            (&[0x02, 0x02, 0x00, 0x80], true),
            (&[0x02, 0x00], false),
            (&[0x30, 0x81, 0x03, 0x02, 0x01, 0x00], false),
            (&[0x30, 0x80, 0x02, 0x01, 0x00, 0x00, 0x00], false),
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], false),
            (&[0x30, 0x88, 1, 0, 0, 0, 0, 0, 0, 0], false),
            (&[0x30, 0x00, 0x00], false),
            (&[0x05, 0x01, 0x00], false),
            (&[0x24, 0x03, 0x04, 0x01, 0x61], false),
            (&[0x31, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02], true),
            (&[0x31, 0x06, 0x02, 0x01, 0x02, 0x02, 0x01, 0x01], false),
            (&[0x06, 0x02, 0x2a, 0x86], false),
            (&[0x06, 0x02, 0x80, 0x01], false),
            (&[0x03, 0x02, 0x07, 0x80], true),
            (&[0x03, 0x02, 0x07, 0x81], false),
            (&[0x03, 0x01, 0x01], false),
            (&[0x1f, 0x81, 0x01, 0x00], false),
            (&[], false),
        ];
        for (der, good) in cases {
            assert_eq!(check(der).is_ok(), *good, "{der:02x?}");
        }
    }

    #[test]
    fn nesting_ends_at_sixteen() {
        let nested = |levels: usize| {
            (0..levels).fold(Vec::new(), |inner, _| super::super::write::tlv(tag::SEQUENCE, &[&inner]))
        };
        assert!(check(&nested(16)).is_ok());
        assert!(check(&nested(17)).is_err());
        assert!(check(&nested(5000)).is_err());
    }
}
