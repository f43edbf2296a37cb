//! The last look before anything is signed: reads the to-be-signed bytes with a parser that did not write
//! them, and holds every field against the profile.

use model::{Serial, Timestamp};
use rcgen::ExtendedKeyUsagePurpose;
use x509_parser::{
    certificate::TbsCertificate,
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    prelude::{FromDer, X509Extension},
    x509::X509Version,
};

use crate::{
    KeyError, Profile, PublicKey,
    ca_certificate::Issuer,
    der::{self, DerError, Reader, write},
    profile::{BACKDATE, Kind},
};

/// What was found in to-be-signed bytes that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Linted {
    pub(crate) serial: Serial,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) public_key: PublicKey,
}

/// Which rule the bytes break. Never the caller's fault alone: nothing is signed, and someone should look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LintError {
    /// Not DER.
    #[error("the bytes to be signed are not DER: {0}")]
    Der(#[from] DerError),
    /// A field is not what the profile says.
    #[error("the bytes to be signed break a rule of their profile: {0}")]
    Rule(&'static str),
    /// The key in it may not be certified.
    #[error("the bytes to be signed hold a key that is refused: {0}")]
    Key(#[from] KeyError),
}

/// Checks a TBSCertificate that `issuer` is to sign under `profile`.
pub(crate) fn lint(tbs: &[u8], profile: &Profile, issuer: &Issuer) -> Result<Linted, LintError> {
    der::check(tbs)?;
    require(
        count_fields(tbs)? == 8,
        "version, serial, algorithm, issuer, validity, subject, key, extensions",
    )?;
    let (_, parsed) = TbsCertificate::from_der(tbs).map_err(|_| LintError::Rule("it can be read"))?;

    require(parsed.version() == X509Version::V3, "the version is 3")?;
    let serial: [u8; 18] =
        parsed.raw_serial().try_into().map_err(|_| LintError::Rule("the serial has 18 octets"))?;
    require((1..=0x7f).contains(&serial[0]), "the serial is positive and begins with its writer's number")?;
    require(field(tbs, 2)? == issuer.algorithm.identifier(), "the algorithm is the issuer's")?;
    require(parsed.issuer().as_raw() == issuer.name(), "the issuer is the one that signs")?;
    require(parsed.subject().as_raw() == write::common_name(&profile.common_name), "the subject is one CN")?;

    let not_before = Timestamp::from_secs(parsed.validity().not_before.timestamp());
    let not_after = Timestamp::from_secs(parsed.validity().not_after.timestamp());
    require(not_before < not_after, "it ends after it begins")?;
    require(not_before >= issuer.not_before, "it does not begin before its issuer")?;
    require(not_after <= issuer.not_after, "it does not outlive its issuer")?;
    require(
        not_after.since(not_before) <= profile.lifetime + BACKDATE,
        "it lives no longer than its profile",
    )?;

    let public_key = PublicKey::from_spki(parsed.public_key().raw)?;
    let is_root = profile.kind == Kind::Root;
    require(
        is_root == (public_key == issuer.public_key),
        "its key is its own, and only the root's is the issuer's",
    )?;
    lint_extensions(parsed.extensions(), profile, &public_key, issuer)?;
    Ok(Linted { serial: Serial(serial), not_before, not_after, public_key })
}

/// Every extension that is there is expected, as critical as expected and says what is expected; and as
/// many are there as are expected.
fn lint_extensions(
    extensions: &[X509Extension<'_>],
    profile: &Profile,
    public_key: &PublicKey,
    issuer: &Issuer,
) -> Result<(), LintError> {
    let kind = &profile.kind;
    let names = profile.dns_names.len() + profile.addresses.len();
    let expected = [
        true,
        true,
        true,
        kind.purpose().is_some(),
        kind.permitted_subtree().is_some(),
        names > 0,
        *kind != Kind::Root,
        profile.crl_url.is_some(),
    ];
    let expected = expected.iter().filter(|there| **there).count();
    require(extensions.len() == expected, "it has the extensions of its profile and no others")?;
    for (index, extension) in extensions.iter().enumerate() {
        let again = extensions[..index].iter().any(|other| other.oid == extension.oid);
        require(!again, "no extension is there twice")?;
        lint_extension(extension, profile, public_key, issuer)?;
    }
    Ok(())
}

fn lint_extension(
    extension: &X509Extension<'_>,
    profile: &Profile,
    public_key: &PublicKey,
    issuer: &Issuer,
) -> Result<(), LintError> {
    let kind = &profile.kind;
    let must_be_critical = match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(found) => {
            require(found.ca == kind.path_length().is_some(), "only a CA says that it is one")?;
            let length = kind.path_length().map(u32::from);
            require(found.path_len_constraint == length, "the path length is the profile's")?;
            true
        }
        ParsedExtension::KeyUsage(found) => {
            let bits =
                if kind.path_length().is_none() { DIGITAL_SIGNATURE } else { CERTIFICATE_AND_CRL_SIGN };
            require(found.flags == bits, "the key usage is the profile's")?;
            true
        }
        ParsedExtension::ExtendedKeyUsage(found) => {
            let rest = found.any
                || found.code_signing
                || found.email_protection
                || found.time_stamping
                || found.ocsp_signing
                || !found.other.is_empty();
            require(!rest, "no purpose but serverAuth or clientAuth")?;
            require(
                found.server_auth == (kind.purpose() == Some(ExtendedKeyUsagePurpose::ServerAuth)),
                "serverAuth by profile",
            )?;
            require(
                found.client_auth == (kind.purpose() == Some(ExtendedKeyUsagePurpose::ClientAuth)),
                "clientAuth by profile",
            )?;
            false
        }
        ParsedExtension::NameConstraints(found) => {
            require(found.excluded_subtrees.is_none(), "no subtree is excluded")?;
            let permitted = match found.permitted_subtrees.as_deref() {
                Some([only]) => Some(&only.base),
                _ => None,
            };
            let is_expected = matches!(permitted, Some(GeneralName::DNSName(name)) if Some(*name) == kind.permitted_subtree());
            require(is_expected, "the permitted subtree is the profile's")?;
            true
        }
        ParsedExtension::SubjectAlternativeName(found) => {
            require(has_names(&found.general_names, profile), "the names are the profile's")?;
            false
        }
        ParsedExtension::SubjectKeyIdentifier(found) => {
            require(found.0 == public_key.identifier(), "the subject key identifier is the key's")?;
            false
        }
        ParsedExtension::AuthorityKeyIdentifier(found) => {
            let identifier = found.key_identifier.as_ref().map(|identifier| identifier.0);
            require(
                identifier == Some(&issuer.public_key.identifier()),
                "the authority key is the issuer's",
            )?;
            require(found.authority_cert_serial.is_none(), "the authority is named by its key alone")?;
            false
        }
        ParsedExtension::CRLDistributionPoints(found) => {
            let name = match found.points.as_slice() {
                [point] => point.distribution_point.as_ref(),
                _ => None,
            };
            let is_expected = matches!(name, Some(DistributionPointName::FullName(names))
                if matches!(names.as_slice(), [GeneralName::URI(url)] if Some(*url) == profile.crl_url.as_deref()));
            require(is_expected, "the revocation list's address is the profile's")?;
            false
        }
        _ => return Err(LintError::Rule("no extension outside the profile")),
    };
    require(extension.critical == must_be_critical, "each extension is critical or not as RFC 5280 says")
}

fn has_names(found: &[GeneralName<'_>], profile: &Profile) -> bool {
    let mut addresses = profile.addresses.iter();
    let mut dns_names = profile.dns_names.iter();
    let all_known = found.iter().all(|name| match name {
        GeneralName::DNSName(name) => dns_names.next().is_some_and(|expected| expected == name),
        GeneralName::IPAddress(octets) => addresses.next().is_some_and(|expected| match expected {
            std::net::IpAddr::V4(v4) => v4.octets() == *octets,
            std::net::IpAddr::V6(v6) => v6.octets() == *octets,
        }),
        _ => false,
    });
    all_known && dns_names.next().is_none() && addresses.next().is_none()
}

/// How many parts there are.
pub(crate) fn count_fields(tbs: &[u8]) -> Result<usize, DerError> {
    let mut fields = Reader::new(tbs).next()?.reader();
    let mut count = 0;
    while !fields.is_empty() {
        fields.next()?;
        count += 1;
    }
    Ok(count)
}

/// The whole part at this place, counted from 0.
pub(crate) fn field(tbs: &[u8], index: usize) -> Result<&[u8], DerError> {
    let mut fields = Reader::new(tbs).next()?.reader();
    for _ in 0..index {
        fields.next()?;
    }
    Ok(fields.next()?.whole)
}

pub(crate) fn require(holds: bool, rule: &'static str) -> Result<(), LintError> {
    if holds { Ok(()) } else { Err(LintError::Rule(rule)) }
}

/// Bit 0 of KeyUsage as x509-parser counts, from the least significant bit.
const DIGITAL_SIGNATURE: u16 = 1;
const CERTIFICATE_AND_CRL_SIGN: u16 = 1 << 5 | 1 << 6;
