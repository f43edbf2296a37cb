//! Revocation lists (RFC 5280 §5): complete, one an issuer, without issuing distribution point.

use model::{RevocationReason, Serial, Timestamp};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use x509_parser::{
    extensions::ParsedExtension,
    prelude::FromDer,
    revocation_list::{RevokedCertificate, TbsCertList},
    x509::X509Version,
};

use crate::{
    Authority, KeyStore, LintError, SignError,
    authority::assemble,
    ca_certificate::Issuer,
    der,
    lint::{count_fields, field, require},
    tbs::{date, to_be_signed},
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
    /// that of any list before; readers ask again at `next_update`, which must be after `this_update`.
    pub fn revocation_list(
        &self,
        keys: &dyn KeyStore,
        number: u64,
        this_update: Timestamp,
        next_update: Timestamp,
        entries: impl IntoIterator<Item = RevokedEntry>,
    ) -> Result<Vec<u8>, SignError> {
        let list = List { number, this_update, next_update, entries: entries.into_iter().collect() };
        let issuer = self.certificate().issuer();
        let tbs = list.write(issuer)?;
        list.lint(&tbs, issuer)?;
        assemble(&tbs, &keys.sign(self.key(), &tbs)?, issuer)
    }
}

/// All that a TBSCertList is made of but its issuer.
struct List {
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    entries: Vec<RevokedEntry>,
}

impl List {
    fn write(&self, issuer: &Issuer) -> Result<Vec<u8>, rcgen::Error> {
        let params = CertificateRevocationListParams {
            this_update: date(self.this_update)?,
            next_update: date(self.next_update)?,
            crl_number: self.number.into(),
            issuing_distribution_point: None,
            revoked_certs: self.entries.iter().map(RevokedEntry::params).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::PreSpecified(issuer.public_key.identifier().to_vec()),
        };
        to_be_signed(issuer, |issuer| params.signed_by(issuer))
    }

    /// Reads the list with a parser that did not write it: it says what was asked for, and no more.
    fn lint(&self, tbs: &[u8], issuer: &Issuer) -> Result<(), LintError> {
        der::check(tbs)?;
        let fields = if self.entries.is_empty() { 6 } else { 7 };
        require(count_fields(tbs)? == fields, "version, algorithm, issuer, two times, entries, extensions")?;
        let (_, parsed) = TbsCertList::from_der(tbs).map_err(|_| LintError::Rule("it can be read"))?;
        require(parsed.version == Some(X509Version::V2), "the version is 2")?;
        require(field(tbs, 1)? == issuer.algorithm.identifier(), "the algorithm is the issuer's")?;
        require(parsed.issuer.as_raw() == issuer.name(), "the issuer is the one that signs")?;
        require(parsed.this_update.timestamp() == self.this_update.secs(), "it begins when asked for")?;
        let next_update = parsed.next_update.map(|at| at.timestamp());
        require(next_update == Some(self.next_update.secs()), "it ends when asked for")?;
        let [authority, number] = parsed.extensions() else {
            return Err(LintError::Rule("it names the issuer's key and its own number, and nothing else"));
        };
        require(!authority.critical && !number.critical, "no extension is critical")?;
        let identifier = issuer.public_key.identifier();
        let is_issuer = matches!(authority.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(found)
            if found.key_identifier.as_ref().is_some_and(|found| found.0 == identifier)
                && found.authority_cert_serial.is_none());
        require(is_issuer, "the authority key is the issuer's")?;
        let is_number = matches!(number.parsed_extension(), ParsedExtension::CRLNumber(found)
            if *found == self.number.into());
        require(is_number, "its number is the one asked for")?;
        let found = &parsed.revoked_certificates;
        let is_complete = found.len() == self.entries.len()
            && found.iter().zip(&self.entries).all(|(found, entry)| entry.is_written_as(found));
        require(is_complete, "its entries are the ones asked for")
    }
}

impl RevokedEntry {
    fn params(&self) -> Result<RevokedCertParams, rcgen::Error> {
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&self.serial.0),
            revocation_time: date(self.at)?,
            reason_code: reason_code(self.reason),
            invalidity_date: None,
        })
    }

    fn is_written_as(&self, found: &RevokedCertificate<'_>) -> bool {
        let reason = found.reason_code().map(|(critical, reason)| (critical, reason.0));
        let (expected, extensions) = match self.reason {
            RevocationReason::Unspecified => (None, 0),
            reason => (Some((false, reason.number())), 1),
        };
        magnitude(found.raw_serial()) == magnitude(&self.serial.0)
            && found.revocation_date.timestamp() == self.at.secs()
            && found.extensions().len() == extensions
            && reason == expected
    }
}

/// Unspecified is said by saying nothing (RFC 5280 §5.3.1).
fn reason_code(reason: RevocationReason) -> Option<rcgen::RevocationReason> {
    match reason {
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(rcgen::RevocationReason::KeyCompromise),
        RevocationReason::AffiliationChanged => Some(rcgen::RevocationReason::AffiliationChanged),
        RevocationReason::Superseded => Some(rcgen::RevocationReason::Superseded),
        RevocationReason::CessationOfOperation => Some(rcgen::RevocationReason::CessationOfOperation),
    }
}

/// An INTEGER's octets without leading zeros.
fn magnitude(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    &octets[zeros..]
}
