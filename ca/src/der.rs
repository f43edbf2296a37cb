//! Distinguished Encoding Rules (X.690), strictly: one value has one encoding, every other encoding is an error.

pub(crate) mod oid;
mod reader;
mod walk;
pub(crate) mod write;

pub(crate) use reader::{Element, Reader};
pub(crate) use walk::{check, is_sorted_set};

/// Where an encoding breaks a rule of DER or does not have the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {fault}")]
pub struct DerError {
    /// Offset of the offending element from the start of the input.
    pub at: usize,
    /// The broken rule.
    pub fault: &'static str,
}

/// The tags that certificates and requests use (X.680 §8.4).
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[number]` of a primitive type, implicitly tagged.
    pub(crate) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// `[number]` of a constructed type, or explicitly tagged.
    pub(crate) const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}
