//! The attributes of a request (RFC 2985 §5.4).

use super::{RequestError, extensions};
use crate::{
    DeviceCertificate,
    der::{Element, is_sorted_set, oid, tag},
};

/// What the attributes say that a caller may want to know.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) dns_names: Vec<String>,
}

impl Attributes {
    /// Reads all attributes; those that nobody here knows carry nothing that could be granted.
    pub(super) fn read(
        attributes: &Element<'_>,
        current: Option<&DeviceCertificate>,
    ) -> Result<Self, RequestError> {
        if !is_sorted_set(attributes)? {
            return Err(attributes.fault("the attributes are not in the order of DER").into());
        }
        let mut read = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut reader = attributes.reader();
        while !reader.is_empty() {
            let mut attribute = reader.expect(tag::SEQUENCE, "an attribute was expected")?.reader();
            let kind = attribute.expect(tag::OID, "an attribute type was expected")?.content;
            let values = attribute.expect(tag::SET, "a SET of attribute values was expected")?;
            attribute.finish()?;
            if seen.contains(&kind) {
                return Err(RequestError::Duplicate(format!("attribute {}", oid::dotted(kind))));
            }
            if seen.len() == MOST {
                return Err(RequestError::TooMany("attributes"));
            }
            seen.push(kind);
            read.one(kind, &values, current)?;
        }
        Ok(read)
    }

    fn one(
        &mut self,
        kind: &[u8],
        values: &Element<'_>,
        current: Option<&DeviceCertificate>,
    ) -> Result<(), RequestError> {
        match kind {
            oid::EXTENSION_REQUEST => {
                self.dns_names = extensions::read(&single(kind, values)?, current)?;
                Ok(())
            }
            oid::MICROSOFT_EXTENSION_REQUEST => {
                Err(RequestError::Duplicate(format!("the extension request (as {})", oid::dotted(kind))))
            }
            oid::CHALLENGE_PASSWORD if single(kind, values)?.content.is_empty() => Ok(()),
            oid::CHALLENGE_PASSWORD => Err(RequestError::ChallengePassword),
            oid::CHANGE_SUBJECT_NAME => {
                Err(RequestError::Names("the request asks for another subject".into()))
            }
            _ => Ok(()),
        }
    }
}

/// The one value of an attribute that has exactly one.
fn single<'a>(kind: &[u8], values: &Element<'a>) -> Result<Element<'a>, RequestError> {
    let mut reader = values.reader();
    let value = reader.next()?;
    if reader.is_empty() {
        Ok(value)
    } else {
        Err(RequestError::Duplicate(format!("the value of attribute {}", oid::dotted(kind))))
    }
}

/// Most attributes; honest requests have one or two.
const MOST: usize = 32;
