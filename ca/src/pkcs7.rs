//! Certificates in a CMS envelope without signers (RFC 5652 §5, RFC 7030 §4.1.3).

use crate::der::{oid, tag, write};

/// Wraps certificates as a certs-only SignedData. The same set gives the same bytes in whatever order it
/// comes: DER sorts it, so readers must not rely on an order.
pub fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    let mut sorted = certificates.to_vec();
    sorted.sort_unstable();
    let content = write::sequence(&[&write::tlv(tag::OID, &[oid::PKCS7_DATA])]);
    let signed_data = write::sequence(&[
        &write::tlv(tag::INTEGER, &[&[1]]),
        &write::tlv(tag::SET, &[]),
        &content,
        &write::tlv(tag::context_constructed(0), &sorted),
        &write::tlv(tag::SET, &[]),
    ]);
    write::sequence(&[
        &write::tlv(tag::OID, &[oid::PKCS7_SIGNED_DATA]),
        &write::tlv(tag::context_constructed(0), &[&signed_data]),
    ])
}
