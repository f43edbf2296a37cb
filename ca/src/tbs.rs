//! Writes the to-be-signed bytes of a certificate (RFC 5280 §4.1). The same values give the same bytes.

use model::{Serial, Timestamp};

use crate::{
    Profile, PublicKey,
    ca_certificate::Issuer,
    der::{oid, tag, write},
    profile::Kind,
};

/// All that a TBSCertificate is made of.
pub(crate) struct Parts<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) serial: Serial,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) public_key: &'a PublicKey,
    /// Who will sign.
    pub(crate) issuer: &'a Issuer,
}

impl Parts<'_> {
    pub(crate) fn write(&self) -> Vec<u8> {
        write::sequence(&[
            &write::tlv(tag::context_constructed(0), &[&write::unsigned(&[2])]),
            &write::unsigned(&self.serial.0),
            self.issuer.algorithm.identifier(),
            &self.issuer.name,
            &write::sequence(&[&write::time(self.not_before), &write::time(self.not_after)]),
            &write::common_name(&self.profile.common_name),
            self.public_key.spki_der(),
            &write::tlv(tag::context_constructed(3), &[&write::sequence(&[&self.extensions().concat()])]),
        ])
    }

    fn extensions(&self) -> Vec<Vec<u8>> {
        let kind = &self.profile.kind;
        let mut extensions = vec![basic_constraints(kind), key_usage(kind)];
        if let Some(purpose) = kind.purpose() {
            let value = write::sequence(&[&write::tlv(tag::OID, &[purpose])]);
            extensions.push(write::extension(oid::EXTENDED_KEY_USAGE, false, &value));
        }
        if let Some(subtree) = kind.permitted_subtree() {
            let subtree = write::sequence(&[&write::dns_name(subtree)]);
            let value = write::sequence(&[&write::tlv(tag::context_constructed(0), &[&subtree])]);
            extensions.push(write::extension(oid::NAME_CONSTRAINTS, true, &value));
        }
        let mut names: Vec<Vec<u8>> =
            self.profile.dns_names.iter().map(|name| write::dns_name(name)).collect();
        names.extend(self.profile.addresses.iter().map(|address| write::ip_address(*address)));
        if !names.is_empty() {
            extensions.push(write::extension(
                oid::SUBJECT_ALT_NAME,
                false,
                &write::sequence(&[&names.concat()]),
            ));
        }
        let identifier = write::tlv(tag::OCTET_STRING, &[&self.public_key.identifier()]);
        extensions.push(write::extension(oid::SUBJECT_KEY_IDENTIFIER, false, &identifier));
        if *kind != Kind::Root {
            extensions.push(authority_key_identifier(self.issuer.public_key.identifier()));
        }
        if let Some(url) = &self.profile.crl_url {
            extensions.push(crl_distribution_point(url));
        }
        extensions
    }
}

/// Names the issuer's key (RFC 5280 §4.2.1.1); revocation lists carry the same.
pub(crate) fn authority_key_identifier(identifier: [u8; 20]) -> Vec<u8> {
    let value = write::sequence(&[&write::tlv(tag::context(0), &[&identifier])]);
    write::extension(oid::AUTHORITY_KEY_IDENTIFIER, false, &value)
}

fn basic_constraints(kind: &Kind) -> Vec<u8> {
    let value = match kind.path_length() {
        None => write::sequence(&[]),
        Some(length) => write::sequence(&[&[tag::BOOLEAN, 1, 0xff], &write::unsigned(&[length])]),
    };
    write::extension(oid::BASIC_CONSTRAINTS, true, &value)
}

/// Leaves sign handshakes; CAs sign certificates and revocation lists, and nothing else.
fn key_usage(kind: &Kind) -> Vec<u8> {
    let bits: &[u8] = if kind.path_length().is_none() { &[7, 0x80] } else { &[1, 0x06] };
    write::extension(oid::KEY_USAGE, true, &write::tlv(tag::BIT_STRING, &[bits]))
}

fn crl_distribution_point(url: &str) -> Vec<u8> {
    let full_name =
        write::tlv(tag::context_constructed(0), &[&write::tlv(tag::context(6), &[url.as_bytes()])]);
    let point = write::sequence(&[&write::tlv(tag::context_constructed(0), &[&full_name])]);
    write::extension(oid::CRL_DISTRIBUTION_POINTS, false, &write::sequence(&[&point]))
}
