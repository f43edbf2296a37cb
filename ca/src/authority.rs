//! An issuing CA: prepares, lints, signs and verifies. Nothing is signed that was not linted here.

use std::time::Duration;

use model::{Serial, Timestamp};
use x509_parser::{
    certificate::TbsCertificate,
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{
    CaCertificate, Certificate, DeploymentDomain, KeyError, KeyName, KeyStore, KeyStoreError, LintError,
    Profile, PublicKey,
    ca_certificate::Issuer,
    der::{self, Reader, tag, write},
    lint::{Linted, lint},
    profile::BACKDATE,
    tbs::Parts,
};

/// One of the two intermediates: its certificate and the name of its key.
#[derive(Debug, Clone)]
pub struct Authority {
    key: KeyName,
    certificate: CaCertificate,
    domain: DeploymentDomain,
}

/// To-be-signed bytes that passed the lint. Only this module makes one, so whoever holds one may have it
/// signed. The bytes are stored as an intent before; after a crash the same bytes are signed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    tbs: Vec<u8>,
    signed_by: KeyName,
    linted: Linted,
}

/// Why nothing was prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The profile belongs to the other intermediate.
    #[error("certificates of this profile are signed by the {} key", .0.as_str())]
    OtherAuthority(KeyName),
    /// The clock shows a time before the issuer's own certificate.
    #[error("the clock shows {}, before the issuer's certificate begins; set the server's clock", .0.rfc3339())]
    ClockBehind(Timestamp),
    /// The issuer ends so soon that the certificate would hardly live.
    #[error("the issuer's certificate ends {}; make a new CA", .0.rfc3339())]
    IssuerEnds(Timestamp),
    /// The key is a CA's.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no way to write it, as with a time after the year 9999.
    #[error("the certificate cannot be written: {0}; check the server's clock")]
    Write(#[from] rcgen::Error),
    /// What was prepared does not pass: a fault of ours.
    #[error(transparent)]
    Lint(#[from] LintError),
}

/// Why there is no certificate although there was an intent, or no revocation list.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// These bytes belong to the other intermediate.
    #[error("these bytes were prepared for the {} key", .0.as_str())]
    OtherAuthority(KeyName),
    /// The key store failed.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// There is no way to write the list, as with times of which the second is not the later one.
    #[error("the revocation list cannot be written: {0}; check the server's clock")]
    Write(#[from] rcgen::Error),
    /// The list that was written does not pass: a fault of ours.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// What came back is not what was prepared, or does not verify.
    #[error("the signed certificate did not pass its check: {0}")]
    Check(&'static str),
}

impl Authority {
    pub(crate) fn new(key: KeyName, certificate: CaCertificate, domain: DeploymentDomain) -> Self {
        Self { key, certificate, domain }
    }

    /// The issuing CA's certificate.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// The name of the issuing key.
    pub fn key(&self) -> KeyName {
        self.key
    }

    /// Writes and lints the bytes to be signed: from an hour before `now` until the profile's lifetime
    /// after it, never beyond the issuer's own validity.
    pub fn prepare(
        &self,
        profile: &Profile,
        public_key: &PublicKey,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Prepared, PrepareError> {
        if profile.kind.signed_by() != self.key {
            return Err(PrepareError::OtherAuthority(profile.kind.signed_by()));
        }
        if *public_key == self.certificate.issuer().public_key {
            return Err(KeyError::Blocked("this is the CA's own key").into());
        }
        prepare(profile, public_key, serial, now, self.certificate.issuer())
    }

    /// Makes stored bytes of a device certificate signable again after a crash: they must be ones that
    /// this authority prepared, and pass the lint once more. Bytes for a door are not stored; ask anew.
    pub fn recorded(&self, tbs: &[u8]) -> Result<Prepared, LintError> {
        if self.key != KeyName::Devices {
            return Err(LintError::Rule("only device certificates are recorded"));
        }
        der::check(tbs)?;
        let (_, parsed) = TbsCertificate::from_der(tbs).map_err(|_| LintError::Rule("it can be read"))?;
        let profile = recorded_profile(&parsed, &self.domain)?;
        let linted = lint(tbs, &profile, self.certificate.issuer())?;
        Ok(Prepared { tbs: tbs.to_vec(), signed_by: self.key, linted })
    }

    /// Signs, reads the result back, compares it with what was prepared and verifies it.
    pub fn sign(&self, keys: &dyn KeyStore, prepared: &Prepared) -> Result<Certificate, SignError> {
        if prepared.signed_by != self.key {
            return Err(SignError::OtherAuthority(prepared.signed_by));
        }
        sign(|message| keys.sign(self.key, message), prepared, self.certificate.issuer())
    }

    pub(crate) fn domain(&self) -> &DeploymentDomain {
        &self.domain
    }
}

impl Prepared {
    /// The bytes to be signed: what is stored as the intent.
    pub fn tbs_der(&self) -> &[u8] {
        &self.tbs
    }

    /// The serial number.
    pub fn serial(&self) -> Serial {
        self.linted.serial
    }

    /// First moment of the validity; whole seconds.
    pub fn not_before(&self) -> Timestamp {
        self.linted.not_before
    }

    /// Last moment of the validity; whole seconds.
    pub fn not_after(&self) -> Timestamp {
        self.linted.not_after
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.linted.public_key.spki_sha256()
    }
}

/// Prepares under any issuer; the ceremony uses it for the root's certificates.
pub(crate) fn prepare(
    profile: &Profile,
    public_key: &PublicKey,
    serial: Serial,
    now: Timestamp,
    issuer: &Issuer,
) -> Result<Prepared, PrepareError> {
    let now = Timestamp::from_secs(now.secs());
    if now < issuer.not_before {
        return Err(PrepareError::ClockBehind(now));
    }
    if issuer.not_after < now.plus(profile.lifetime.min(SHORTEST_REST)) {
        return Err(PrepareError::IssuerEnds(issuer.not_after));
    }
    let not_before = now.minus(BACKDATE).max(issuer.not_before);
    let not_after = Timestamp::from_secs(now.plus(profile.lifetime).min(issuer.not_after).secs());
    let tbs = Parts { profile, serial, not_before, not_after, public_key, issuer }.write()?;
    let linted = lint(&tbs, profile, issuer)?;
    if linted != (Linted { serial, not_before, not_after, public_key: public_key.clone() }) {
        return Err(LintError::Rule("serial, times and key are those that were asked for").into());
    }
    Ok(Prepared { tbs, signed_by: profile.kind.signed_by(), linted })
}

/// Has prepared bytes signed.
pub(crate) fn sign(
    key: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyStoreError>,
    prepared: &Prepared,
    issuer: &Issuer,
) -> Result<Certificate, SignError> {
    let der = assemble(&prepared.tbs, &key(&prepared.tbs)?, issuer)?;
    let Linted { serial, not_before, not_after, .. } = prepared.linted;
    Ok(Certificate::new(der, serial, not_before, not_after))
}

/// Joins linted bytes and a signature, and does not trust the result.
pub(crate) fn assemble(tbs: &[u8], signature: &[u8], issuer: &Issuer) -> Result<Vec<u8>, SignError> {
    let der = write::sequence(&[tbs, issuer.algorithm.identifier(), &write::bit_string(signature)]);
    verify(&der, tbs, issuer).map_err(SignError::Check)?;
    Ok(der)
}

/// Whether a signed structure is these bytes, signed by this issuer. Certificates and revocation lists are
/// built alike: content, algorithm, signature.
pub(crate) fn verify(der: &[u8], tbs: &[u8], issuer: &Issuer) -> Result<(), &'static str> {
    der::check(der).map_err(|_| "it is not DER")?;
    let mut outer = Reader::new(der).next().map_err(|_| "it is empty")?.reader();
    let mut field = || outer.next().map_err(|_| "a part is missing");
    let (content, algorithm, signature) = (field()?, field()?, field()?);
    outer.finish().map_err(|_| "it has more than three parts")?;
    if content.whole != tbs {
        return Err("its content is not what was prepared");
    }
    if algorithm.whole != issuer.algorithm.identifier() || signature.tag != tag::BIT_STRING {
        return Err("its algorithm is not the issuer's");
    }
    let signature = signature.whole_octets().map_err(|_| "its signature has unused bits")?;
    if !issuer.public_key.has_signed(issuer.algorithm, tbs, signature) {
        return Err("its signature does not verify with the issuer's certificate");
    }
    Ok(())
}

/// The profile that recorded bytes claim to follow; the lint then holds them to it.
fn recorded_profile(parsed: &TbsCertificate<'_>, domain: &DeploymentDomain) -> Result<Profile, LintError> {
    let names = parsed.subject_alternative_name().ok().flatten();
    let device = match names.map(|names| names.value.general_names.as_slice()) {
        Some([GeneralName::DNSName(name)]) => domain.device_of(name),
        _ => None,
    };
    let device = device.ok_or(LintError::Rule("it names one device of this deployment"))?;
    let validity = parsed.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let profile = Profile::device(&device, domain, lifetime)
        .map_err(|_| LintError::Rule("it lives at most ten years"))?;
    let url = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(found) => found.points.first(),
        _ => None,
    });
    match url.and_then(|point| point.distribution_point.as_ref()) {
        None => Ok(profile),
        Some(DistributionPointName::FullName(names)) => match names.as_slice() {
            [GeneralName::URI(url)] => profile
                .with_crl_url(url)
                .map_err(|_| LintError::Rule("the revocation list is at an http URL")),
            _ => Err(LintError::Rule("the revocation list has one address")),
        },
        Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => {
            Err(LintError::Rule("the revocation list has an address"))
        }
    }
}

/// A certificate that its issuer's end would cut shorter than this is not made at all.
const SHORTEST_REST: Duration = Duration::from_secs(86_400);
