//! Just enough DER (X.690) to write a certification request and to read what comes back.

/// What DER cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed DER")]
pub(crate) struct Malformed;

/// Reads one element after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// One element: its tag, its content, and both with the length as they stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn next_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let (&tag, rest) = self.0.split_first().ok_or(Malformed)?;
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
            }
            _ => return Err(Malformed),
        };
        let (content, after) = rest.split_at_checked(length).ok_or(Malformed)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Ok(Element { tag, content, whole })
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.element()?;
        if element.tag == tag { Ok(element.content) } else { Err(Malformed) }
    }

    /// Steps into the next element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.expect(tag).map(Self)
    }
}

/// One element of these parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 4);
    out.push(tag);
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        0x100..=0xffff => out.extend([0x82, (length >> 8) as u8, length as u8]),
        _ => out.extend([0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8]),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// 2.5.4.3
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_at_every_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let written = element(SEQUENCE, &[&content[..length / 2], &content[length / 2..]]);
            let mut reader = Reader::new(&written);
            let read = reader.element().unwrap();
            assert_eq!((read.tag, read.content, read.whole), (SEQUENCE, &content[..], &written[..]));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn cut_and_oversized_elements_are_refused() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x82, 1],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
        ] {
            assert!(Reader::new(bad).element().is_err(), "{bad:?}");
        }
    }
}
