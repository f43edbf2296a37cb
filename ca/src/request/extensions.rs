//! The extensions that a request asks for.

use super::RequestError;
use crate::{
    DeviceCertificate,
    der::{self, Element, Reader, oid, tag},
};

/// Holds all requested extensions to what a device gets anyway; returns the dNSNames asked for.
pub(super) fn read(
    extensions: &Element<'_>,
    current: Option<&DeviceCertificate>,
) -> Result<Vec<String>, RequestError> {
    if extensions.tag != tag::SEQUENCE {
        return Err(extensions.fault("a SEQUENCE of extensions was expected").into());
    }
    let mut names = Vec::new();
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut reader = extensions.reader();
    while !reader.is_empty() {
        let mut extension = reader.expect(tag::SEQUENCE, "an extension was expected")?.reader();
        let id = extension.expect(tag::OID, "an extension's identifier was expected")?.content;
        let critical = match extension.optional(tag::BOOLEAN)? {
            Some(flag) if flag.content == [0] => {
                return Err(flag.fault("a default value that is written out").into());
            }
            flag => flag.is_some(),
        };
        let value = extension.expect(tag::OCTET_STRING, "an extension's value was expected")?.content;
        extension.finish()?;
        if seen.contains(&id) {
            return Err(RequestError::Duplicate(format!("extension {}", oid::dotted(id))));
        }
        if seen.len() == MOST {
            return Err(RequestError::TooMany("extensions"));
        }
        seen.push(id);
        match id {
            oid::BASIC_CONSTRAINTS => basic_constraints(value)?,
            oid::KEY_USAGE => key_usage(value)?,
            oid::EXTENDED_KEY_USAGE => extended_key_usage(value)?,
            oid::SUBJECT_ALT_NAME => names = dns_names(value)?,
            oid::SUBJECT_KEY_IDENTIFIER | oid::AUTHORITY_KEY_IDENTIFIER => {}
            _ if current.is_some_and(|certificate| certificate.has_extension(id, critical, value)) => {}
            _ if critical || POWERFUL.contains(&id) => {
                return Err(RequestError::Extension(oid::dotted(id)));
            }
            _ => {}
        }
    }
    Ok(names)
}

/// RFC 5280 §4.2.1.9: `SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLen INTEGER OPTIONAL }`.
fn basic_constraints(value: &[u8]) -> Result<(), RequestError> {
    let mut fields = only(value, tag::SEQUENCE)?.reader();
    let ca = fields.optional(tag::BOOLEAN)?;
    let path_length = fields.optional(tag::INTEGER)?;
    fields.finish()?;
    match (ca, path_length) {
        (Some(flag), _) if flag.content == [0] => {
            Err(flag.fault("a default value that is written out").into())
        }
        (None, None) => Ok(()),
        _ => Err(RequestError::AsksCa),
    }
}

/// RFC 5280 §4.2.1.3: bits, the first of them digitalSignature.
fn key_usage(value: &[u8]) -> Result<(), RequestError> {
    let bits = only(value, tag::BIT_STRING)?;
    let octets = bits.content.get(1..).unwrap_or_default();
    let first = octets.first().copied().unwrap_or(0);
    if first & (KEY_CERT_SIGN | CRL_SIGN) != 0 {
        return Err(RequestError::AsksCa);
    }
    if octets.len() > 1 || first & !DIGITAL_SIGNATURE != 0 {
        return Err(RequestError::KeyUsage);
    }
    Ok(())
}

/// RFC 5280 §4.2.1.12: one or more purposes.
fn extended_key_usage(value: &[u8]) -> Result<(), RequestError> {
    let mut purposes = only(value, tag::SEQUENCE)?.reader();
    let mut seen = false;
    while !purposes.is_empty() || !seen {
        let purpose = purposes.expect(tag::OID, "a key purpose was expected")?.content;
        if purpose != oid::CLIENT_AUTH {
            return Err(RequestError::ExtendedKeyUsage(oid::dotted(purpose)));
        }
        if seen {
            return Err(RequestError::Duplicate("the purpose clientAuth".into()));
        }
        seen = true;
    }
    Ok(())
}

/// RFC 5280 §4.2.1.6: host names only.
fn dns_names(value: &[u8]) -> Result<Vec<String>, RequestError> {
    let mut names = Vec::new();
    let mut reader = only(value, tag::SEQUENCE)?.reader();
    while !reader.is_empty() || names.is_empty() {
        let name = reader.next()?;
        if name.tag != tag::context(2) {
            return Err(RequestError::Names("the request asks for a name that is not a dNSName".into()));
        }
        let is_host = !name.content.is_empty()
            && name.content.len() <= 253
            && name.content.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        match std::str::from_utf8(name.content) {
            Ok(text) if is_host => names.push(text.to_owned()),
            _ => {
                return Err(RequestError::Names(
                    "the request asks for a dNSName that is not a host name".into(),
                ));
            }
        }
        if names.len() > MOST {
            return Err(RequestError::TooMany("names"));
        }
    }
    Ok(names)
}

/// The one element that an extension's value holds, held to DER like the request around it.
fn only(value: &[u8], tag: u8) -> Result<Element<'_>, RequestError> {
    der::check(value)?;
    Ok(Reader::new(value).expect(tag, "an extension's value has another type than its identifier says")?)
}

/// Most extensions, and most names.
const MOST: usize = 32;

const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_CERT_SIGN: u8 = 0x04;
const CRL_SIGN: u8 = 0x02;

/// Extensions that change what a certificate is good for or whom its readers ask: never given on request.
const POWERFUL: &[&[u8]] = &[
    &[0x55, 0x1d, 0x09],                                           // subjectDirectoryAttributes
    &[0x55, 0x1d, 0x10],                                           // privateKeyUsagePeriod
    &[0x55, 0x1d, 0x12],                                           // issuerAltName
    oid::NAME_CONSTRAINTS,                                         //
    oid::CRL_DISTRIBUTION_POINTS,                                  //
    &[0x55, 0x1d, 0x20],                                           // certificatePolicies
    &[0x55, 0x1d, 0x21],                                           // policyMappings
    &[0x55, 0x1d, 0x24],                                           // policyConstraints
    &[0x55, 0x1d, 0x2e],                                           // freshestCRL
    &[0x55, 0x1d, 0x36],                                           // inhibitAnyPolicy
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01],             // authorityInfoAccess
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x0b],             // subjectInfoAccess
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18],             // TLS feature
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x05],       // OCSP no check
    &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02], // certificate timestamps
    &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03], // certificate timestamp poison
    &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x01, 0x01],       // Netscape certificate type
];
