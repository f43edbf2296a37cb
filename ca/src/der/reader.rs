//! Reads one element after the other out of borrowed bytes.

use super::{DerError, tag};

/// A position in some DER. Never allocates, so a claimed length costs nothing.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of `bytes` in the whole input, for messages.
    base: usize,
}

/// One tag, length and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
    /// Offset of `whole` in the whole input.
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, base: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next element, whatever it is.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, DerError> {
        let start = self.at;
        let tag = self.byte("the end comes where an element was expected")?;
        if tag & 0x1f == 0x1f {
            return Err(self.fault_at(start, "a tag number above 30"));
        }
        let length = self.length(start)?;
        let rest = self.bytes.len() - self.at;
        if length > rest {
            return Err(self.fault_at(start, "the length reaches beyond the enclosing element"));
        }
        let content = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(Element { tag, content, whole: &self.bytes[start..self.at], at: self.base + start })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8, fault: &'static str) -> Result<Element<'a>, DerError> {
        let start = self.at;
        let element = self
            .next()
            .map_err(|error| if self.is_at_end(start) { self.fault_at(start, fault) } else { error })?;
        if element.tag == tag { Ok(element) } else { Err(self.fault_at(start, fault)) }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        if self.bytes.get(self.at) == Some(&tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// Refuses anything left over.
    pub(crate) fn finish(&self) -> Result<(), DerError> {
        if self.is_empty() { Ok(()) } else { Err(self.fault_at(self.at, "bytes after the end")) }
    }

    fn is_at_end(&self, start: usize) -> bool {
        start >= self.bytes.len()
    }

    fn byte(&mut self, fault: &'static str) -> Result<u8, DerError> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.fault_at(self.at, fault))?;
        self.at += 1;
        Ok(byte)
    }

    /// A definite length in its shortest form (X.690 §10.1).
    fn length(&mut self, start: usize) -> Result<usize, DerError> {
        let first = self.byte("the end comes where a length was expected")?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        if first == 0x80 {
            return Err(self.fault_at(start, "an indefinite length"));
        }
        let octets = usize::from(first & 0x7f);
        if octets > 4 {
            return Err(self.fault_at(start, "a length of more than four octets"));
        }
        let mut length = 0;
        for position in 0..octets {
            let octet = self.byte("the end comes inside a length")?;
            if position == 0 && octet == 0 {
                return Err(self.fault_at(start, "a length that is not in its shortest form"));
            }
            length = length << 8 | usize::from(octet);
        }
        if length < 0x80 {
            return Err(self.fault_at(start, "a length that is not in its shortest form"));
        }
        Ok(length)
    }

    fn fault_at(&self, at: usize, fault: &'static str) -> DerError {
        DerError { at: self.base + at, fault }
    }
}

impl<'a> Element<'a> {
    /// Reads what is inside.
    pub(crate) fn reader(&self) -> Reader<'a> {
        Reader { bytes: self.content, at: 0, base: self.at + self.whole.len() - self.content.len() }
    }

    pub(crate) fn is_constructed(&self) -> bool {
        self.tag & 0x20 != 0
    }

    /// An error that points here.
    pub(crate) fn fault(&self, fault: &'static str) -> DerError {
        DerError { at: self.at, fault }
    }

    /// The octets of a BIT STRING without unused bits.
    pub(crate) fn whole_octets(&self) -> Result<&'a [u8], DerError> {
        match self.content.split_first() {
            Some((0, octets)) if self.tag == tag::BIT_STRING => Ok(octets),
            _ => Err(self.fault("a BIT STRING of whole octets was expected")),
        }
    }

    /// The magnitude of an INTEGER that is not negative, without a leading zero octet.
    pub(crate) fn unsigned(&self) -> Result<&'a [u8], DerError> {
        match self.content {
            [first, ..] if self.tag != tag::INTEGER || first & 0x80 != 0 => {
                Err(self.fault("an INTEGER that is not negative was expected"))
            }
            [0, rest @ ..] => Ok(rest),
            content => Ok(content),
        }
    }
}
