//! The subject of a request: nothing, or one CN that is a device id.

use model::DeviceId;

use super::RequestError;
use crate::der::{Element, oid, tag};

/// The device id in the subject; `None` for an empty one.
pub(super) fn common_name(subject: &Element<'_>) -> Result<Option<DeviceId>, RequestError> {
    let mut sets = subject.reader();
    if sets.is_empty() {
        return Ok(None);
    }
    let mut pairs = sets.expect(tag::SET, "a RelativeDistinguishedName was expected")?.reader();
    let mut pair = pairs.expect(tag::SEQUENCE, "an attribute type and value were expected")?.reader();
    let kind = pair.expect(tag::OID, "an attribute type was expected")?;
    let value = pair.next()?;
    pair.finish()?;
    if !sets.is_empty() || !pairs.is_empty() || kind.content != oid::COMMON_NAME {
        return Err(RequestError::Subject("the subject has more or other parts than one CN".into()));
    }
    if !matches!(value.tag, tag::UTF8_STRING | tag::PRINTABLE_STRING) {
        return Err(RequestError::Subject("the CN is neither a UTF8String nor a PrintableString".into()));
    }
    let text =
        std::str::from_utf8(value.content).map_err(|_| value.fault("a PrintableString that is not text"))?;
    match text.parse() {
        Ok(device) => Ok(Some(device)),
        Err(error) => Err(RequestError::Subject(format!("the CN is not a device id: {error}"))),
    }
}
