//! Revocation lists (RFC 5280 §5): complete, one an issuer, without issuing distribution point.

use model::{RevocationReason, Serial, Timestamp};

use crate::{
    Authority, KeyStore, SignError,
    authority::verify,
    der::{oid, tag, write},
    tbs::authority_key_identifier,
};

/// One revoked certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Its serial number.
    pub serial: Serial,
    /// Why.
    pub reason: RevocationReason,
    /// Since when.
    pub at: Timestamp,
}

impl Authority {
    /// Builds and signs the complete list of what this authority revoked. `number` must be greater than
    /// that of any list before; readers ask again at `next_update`.
    pub fn revocation_list(
        &self,
        keys: &dyn KeyStore,
        number: u64,
        this_update: Timestamp,
        next_update: Timestamp,
        entries: impl IntoIterator<Item = RevokedEntry>,
    ) -> Result<Vec<u8>, SignError> {
        let issuer = self.certificate().issuer();
        let mut revoked = Vec::new();
        for entry in entries {
            push_entry(&mut revoked, &entry);
        }
        // An empty list must be absent, not empty (RFC 5280 §5.1.2.6).
        let revoked = if revoked.is_empty() { revoked } else { write::sequence(&[&revoked]) };
        let number = write::extension(oid::CRL_NUMBER, false, &write::unsigned(&number.to_be_bytes()));
        let extensions =
            write::sequence(&[&authority_key_identifier(issuer.public_key.identifier()), &number]);
        let tbs = write::sequence(&[
            &write::unsigned(&[1]),
            issuer.algorithm.identifier(),
            &issuer.name,
            &write::time(this_update),
            &write::time(next_update),
            &revoked,
            &write::tlv(tag::context_constructed(0), &[&extensions]),
        ]);
        let signature = keys.sign(self.key(), &tbs)?;
        let der = write::sequence(&[&tbs, issuer.algorithm.identifier(), &write::bit_string(&signature)]);
        verify(&der, &tbs, issuer).map_err(SignError::Check)?;
        Ok(der)
    }
}

fn push_entry(out: &mut Vec<u8>, entry: &RevokedEntry) {
    let reason = match entry.reason {
        // Unspecified is said by saying nothing (RFC 5280 §5.3.1).
        RevocationReason::Unspecified => Vec::new(),
        reason => {
            let value = write::tlv(tag::ENUMERATED, &[&[reason.number()]]);
            write::sequence(&[&write::extension(oid::CRL_REASON, false, &value)])
        }
    };
    out.extend_from_slice(&write::sequence(&[
        &write::unsigned(&entry.serial.0),
        &write::time(entry.at),
        &reason,
    ]));
}
