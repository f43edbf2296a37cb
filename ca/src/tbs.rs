//! Has rcgen write what is to be signed (RFC 5280 §4.1, §5.1), and keeps it instead of signing it. The same
//! values give the same bytes.

use std::cell::RefCell;

use model::{Serial, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType, Error,
    GeneralSubtree, IsCa, KeyIdMethod, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm, SigningKey,
};
use time::OffsetDateTime;

use crate::{KeyKind, Profile, PublicKey, ca_certificate::Issuer, profile::Kind};

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
    pub(crate) fn write(&self) -> Result<Vec<u8>, Error> {
        let params = self.params()?;
        to_be_signed(self.issuer, |issuer| params.signed_by(self.public_key, issuer))
    }

    /// Leaves no field to rcgen's defaults: its serials are made of the key, its validity is two millennia.
    fn params(&self) -> Result<CertificateParams, Error> {
        let (profile, kind) = (self.profile, &self.profile.kind);
        let mut names = Vec::new();
        for name in &profile.dns_names {
            names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        names.extend(profile.addresses.iter().copied().map(SanType::IpAddress));

        let mut params = named(&profile.common_name, self.public_key);
        params.serial_number = Some(SerialNumber::from_slice(&self.serial.0));
        params.not_before = date(self.not_before)?;
        params.not_after = date(self.not_after)?;
        params.is_ca = match kind.path_length() {
            None => IsCa::ExplicitNoCa,
            Some(length) => IsCa::Ca(BasicConstraints::Constrained(length)),
        };
        params.key_usages = match kind.path_length() {
            None => vec![KeyUsagePurpose::DigitalSignature],
            Some(_) => CA_USAGES.to_vec(),
        };
        params.extended_key_usages = kind.purpose().into_iter().collect();
        params.name_constraints = kind.permitted_subtree().map(|subtree| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(subtree.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        params.subject_alt_names = names;
        params.crl_distribution_points =
            profile.crl_url.iter().map(|url| CrlDistributionPoint { uris: vec![url.clone()] }).collect();
        params.use_authority_key_identifier_extension = *kind != Kind::Root;
        params.custom_extensions = Vec::new();
        Ok(params)
    }
}

/// What `write` asks the issuer's key to sign. No key is used.
pub(crate) fn to_be_signed<T>(
    issuer: &Issuer,
    write: impl FnOnce(&rcgen::Issuer<'_, Recorder<'_>>) -> Result<T, Error>,
) -> Result<Vec<u8>, Error> {
    let mut params = named(&issuer.common_name, &issuer.public_key);
    params.key_usages = CA_USAGES.to_vec();
    let issuer = rcgen::Issuer::new(params, Recorder { key: &issuer.public_key, asked: RefCell::default() });
    write(&issuer)?;
    Ok(issuer.key().asked.take())
}

/// Stands where rcgen expects the issuer's key: keeps what it is asked to sign, and signs nothing.
pub(crate) struct Recorder<'a> {
    key: &'a PublicKey,
    asked: RefCell<Vec<u8>>,
}

impl SigningKey for Recorder<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.asked.replace(message.to_vec());
        Ok(Vec::new())
    }
}

impl PublicKeyData for Recorder<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

/// rcgen writes a SubjectPublicKeyInfo anew from these two, so the algorithm is the key's own, whatever its
/// owner signed a request with.
impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.octets()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
            KeyKind::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

/// A moment as rcgen takes it. It panics beyond the years that a GeneralizedTime can say.
pub(crate) fn date(at: Timestamp) -> Result<OffsetDateTime, Error> {
    let date = OffsetDateTime::from_unix_timestamp(at.secs()).map_err(|_| Error::Time)?;
    if (0..=9999).contains(&date.year()) { Ok(date) } else { Err(Error::Time) }
}

/// A holder of this name and key. The identifier is given, because rcgen's own hashes the whole
/// SubjectPublicKeyInfo, and certificates that were issued before name their issuer by ours.
fn named(common_name: &str, key: &PublicKey) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.identifier().to_vec());
    params
}

/// CAs sign certificates and revocation lists, and nothing else.
const CA_USAGES: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
