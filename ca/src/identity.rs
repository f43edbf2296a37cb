//! Whom a presented certificate names. The chain was verified by TLS before; here its content is read, and
//! anything that the profile of a device would not contain is refused.

use model::{DeviceId, DeviceRef, Fingerprint, Serial, TenantName, Timestamp};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    x509::X509Version,
};

use crate::{
    DeploymentDomain,
    der::{self, DerError, tag},
    sha256,
};

/// A client certificate that is one: version 3, no CA, may sign and authenticate clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    serial: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    spki_sha256: [u8; 32],
    only_client: bool,
    common_name: Option<String>,
    /// `None` if there is another name than a dNSName.
    dns_names: Option<Vec<String>>,
    extensions: Vec<Extension>,
}

/// Where the operator's own CA writes a device's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameSource {
    /// The subject is exactly one CN, or its only CN.
    CommonName,
    /// The first label of the only dNSName, or the whole if it has one label.
    SanDns,
}

/// Why a certificate names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not DER.
    #[error("the certificate is not DER: {0}")]
    Der(#[from] DerError),
    /// DER, but no certificate, or with an extension twice.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Another version than 3.
    #[error("the certificate is not of version 3")]
    Version,
    /// It says that it is a CA.
    #[error("the certificate is a CA's")]
    Authority,
    /// It may not authenticate clients, or may do more than a device's.
    #[error("the certificate's key usage is not that of a device")]
    Usage,
    /// Its names are not exactly those of one device of this deployment.
    #[error("the certificate names no device of this deployment")]
    Name,
    /// CN and SAN disagree.
    #[error("the certificate's CN is not the device that its SAN names")]
    CommonName,
    /// Its serial is not one of ours.
    #[error("the certificate's serial is not one that this deployment gives")]
    Serial,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Extension {
    id: Vec<u8>,
    critical: bool,
    value: Vec<u8>,
}

impl DeviceCertificate {
    /// Reads a client certificate.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        der::check(der)?;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        if certificate.version() != X509Version::V3 {
            return Err(IdentityError::Version);
        }
        certificate.extensions_map().map_err(|_| IdentityError::Unreadable)?;
        let constraints = certificate.basic_constraints().map_err(|_| IdentityError::Unreadable)?;
        if constraints.is_some_and(|found| found.value.ca) {
            return Err(IdentityError::Authority);
        }
        let usage = certificate.key_usage().map_err(|_| IdentityError::Unreadable)?;
        if usage.as_ref().is_some_and(|found| found.value.key_cert_sign() || found.value.crl_sign()) {
            return Err(IdentityError::Authority);
        }
        if usage.is_some_and(|found| !found.value.digital_signature()) {
            return Err(IdentityError::Usage);
        }
        let purposes = certificate.extended_key_usage().map_err(|_| IdentityError::Unreadable)?;
        let purposes = purposes.filter(|found| found.value.client_auth).ok_or(IdentityError::Usage)?.value;
        let only_client = !(purposes.any
            || purposes.server_auth
            || purposes.code_signing
            || purposes.email_protection
            || purposes.time_stamping
            || purposes.ocsp_signing
            || !purposes.other.is_empty());
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
        let names = names.map_or(&[][..], |found| found.value.general_names.as_slice());
        Ok(Self {
            fingerprint: Fingerprint(sha256(der)),
            serial: certificate.raw_serial().to_vec(),
            not_before: Timestamp::from_secs(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(certificate.validity().not_after.timestamp()),
            spki_sha256: sha256(certificate.public_key().raw),
            only_client,
            common_name: only_common_name(&certificate),
            dns_names: names.iter().map(dns_name).collect(),
            extensions: certificate.extensions().iter().map(Extension::new).collect(),
            der: der.to_vec(),
        })
    }

    /// The device of this deployment that the certificate names: exactly one SAN, a dNSName
    /// `<device>.<tenant>.device.<domain>`; clientAuth alone; CN the device's id.
    pub fn device(&self, domain: &DeploymentDomain) -> Result<DeviceRef, IdentityError> {
        if !self.only_client {
            return Err(IdentityError::Usage);
        }
        self.serial().ok_or(IdentityError::Serial)?;
        let device = match self.dns_names.as_deref() {
            Some([name]) => domain.device_of(name).ok_or(IdentityError::Name)?,
            _ => return Err(IdentityError::Name),
        };
        if self.common_name.as_deref() != Some(device.device.as_str()) {
            return Err(IdentityError::CommonName);
        }
        Ok(device)
    }

    /// The device that a certificate of the operator's own CA names; its tenant is the operator's choice.
    pub fn operator_device(
        &self,
        source: NameSource,
        tenant: &TenantName,
    ) -> Result<DeviceRef, IdentityError> {
        let name = match source {
            NameSource::CommonName => self.common_name.as_deref(),
            NameSource::SanDns => match self.dns_names.as_deref() {
                Some([name]) => name.split('.').next(),
                _ => None,
            },
        };
        let device: DeviceId = name.and_then(|name| name.parse().ok()).ok_or(IdentityError::Name)?;
        Ok(DeviceRef::new(tenant.clone(), device))
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The serial, if it is of the form that this deployment gives.
    pub fn serial(&self) -> Option<Serial> {
        let octets: [u8; 18] = self.serial.as_slice().try_into().ok()?;
        (1..=0x7f).contains(&octets[0]).then_some(Serial(octets))
    }

    /// First moment of its validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last moment of its validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }

    /// Whether it has exactly this extension.
    pub(crate) fn has_extension(&self, id: &[u8], critical: bool, value: &[u8]) -> bool {
        self.extensions
            .iter()
            .any(|found| found.id == id && found.critical == critical && found.value == value)
    }
}

impl Extension {
    fn new(extension: &x509_parser::prelude::X509Extension<'_>) -> Self {
        Self {
            id: extension.oid.as_bytes().to_vec(),
            critical: extension.critical,
            value: extension.value.to_vec(),
        }
    }
}

/// The CN, if the subject has exactly one and it is a UTF8String or PrintableString.
fn only_common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut names = certificate.subject().iter_common_name();
    let (first, second) = (names.next()?, names.next());
    let value = first.attr_value();
    let is_text = [u32::from(tag::UTF8_STRING), u32::from(tag::PRINTABLE_STRING)].contains(&value.tag().0);
    if second.is_some() || !is_text {
        return None;
    }
    std::str::from_utf8(value.data).ok().map(str::to_owned)
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}
