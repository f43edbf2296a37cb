//! What each kind of certificate contains. Everything in a certificate but its key and serial is decided here.

use std::{net::IpAddr, time::Duration};

use model::DeviceRef;
use rcgen::ExtendedKeyUsagePurpose;

use crate::{DeploymentDomain, KeyName};

/// The full description of a certificate to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub(crate) kind: Kind,
    pub(crate) common_name: String,
    pub(crate) dns_names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) lifetime: Duration,
    pub(crate) crl_url: Option<String>,
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A device: clientAuth.
    Device,
    /// A door: serverAuth.
    Server,
    /// The issuer of devices, for names under this subtree only.
    DevicesIntermediate { subtree: String },
    /// The issuer of doors.
    ServicesIntermediate,
    /// The root.
    Root,
}

/// Why a profile cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No name at all, or more than 100.
    #[error("a server certificate has between 1 and 100 names, not {0}")]
    Count(usize),
    /// Not a host name or `*.` and a host name.
    #[error("`{0}` cannot be in a server certificate: write a host name in lower case, or *.<host name>")]
    HostName(String),
    /// Not a plain http URL.
    #[error("`{0}` cannot be a revocation list's address: write http://host/path, at most 200 characters")]
    CrlUrl(String),
    /// Zero, or more than ten years.
    #[error("a certificate lives between one second and ten years")]
    Lifetime,
}

impl Profile {
    /// A device's certificate: CN, one dNSName, clientAuth alone.
    pub fn device(
        device: &DeviceRef,
        domain: &DeploymentDomain,
        lifetime: Duration,
    ) -> Result<Self, ProfileError> {
        Ok(Self {
            dns_names: vec![domain.device_name(device)],
            ..Self::new(Kind::Device, device.device.as_str(), leaf_lifetime(lifetime)?)
        })
    }

    /// Names where the issuer's revocation list can be fetched (RFC 5280 §4.2.1.13).
    pub fn with_crl_url(mut self, url: &str) -> Result<Self, ProfileError> {
        let rest = url.strip_prefix("http://").filter(|rest| !rest.is_empty() && url.len() <= 200);
        if rest.is_none_or(|rest| !rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)))
        {
            return Err(ProfileError::CrlUrl(url.chars().take(200).collect()));
        }
        self.crl_url = Some(url.to_owned());
        Ok(self)
    }

    /// A door's certificate: these names, serverAuth alone.
    pub fn server(
        dns_names: &[String],
        addresses: &[IpAddr],
        lifetime: Duration,
    ) -> Result<Self, ProfileError> {
        let count = dns_names.len() + addresses.len();
        if !(1..=100).contains(&count) {
            return Err(ProfileError::Count(count));
        }
        if let Some(bad) =
            dns_names.iter().find(|name| !is_host_name(name.strip_prefix("*.").unwrap_or(name)))
        {
            return Err(ProfileError::HostName(bad.chars().take(253).collect()));
        }
        let shown = dns_names.iter().map(String::clone).chain(addresses.iter().map(IpAddr::to_string));
        let common_name = shown.min_by_key(|name| (name.len() > 64, name.starts_with('*')));
        let common_name = common_name.filter(|name| name.len() <= 64).unwrap_or_else(|| "tcpmux".into());
        Ok(Self {
            dns_names: dns_names.to_vec(),
            addresses: addresses.to_vec(),
            ..Self::new(Kind::Server, &common_name, leaf_lifetime(lifetime)?)
        })
    }

    /// The issuer of devices: clientAuth, no further CA, names under `device.<domain>` only.
    pub(crate) fn devices_intermediate(domain: &DeploymentDomain) -> Self {
        let kind = Kind::DevicesIntermediate { subtree: domain.device_subtree() };
        Self::new(kind, &format!("tcpmux devices {domain}"), 10 * YEAR)
    }

    /// The issuer of doors: serverAuth, no further CA.
    pub(crate) fn services_intermediate(domain: &DeploymentDomain) -> Self {
        Self::new(Kind::ServicesIntermediate, &format!("tcpmux services {domain}"), 10 * YEAR)
    }

    /// The root: one CA below it.
    pub(crate) fn root(domain: &DeploymentDomain) -> Self {
        Self::new(Kind::Root, &format!("tcpmux root {domain}"), 20 * YEAR)
    }

    fn new(kind: Kind, common_name: &str, lifetime: Duration) -> Self {
        Self {
            kind,
            common_name: common_name.to_owned(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            lifetime,
            crl_url: None,
        }
    }
}

impl Kind {
    /// The only key that signs certificates of this kind.
    pub(crate) fn signed_by(&self) -> KeyName {
        match self {
            Self::Device => KeyName::Devices,
            Self::Server => KeyName::Services,
            Self::DevicesIntermediate { .. } | Self::ServicesIntermediate | Self::Root => KeyName::Root,
        }
    }

    /// How many CAs may stand below; `None` for a leaf, which is no CA.
    pub(crate) fn path_length(&self) -> Option<u8> {
        match self {
            Self::Device | Self::Server => None,
            Self::DevicesIntermediate { .. } | Self::ServicesIntermediate => Some(0),
            Self::Root => Some(1),
        }
    }

    /// The one extended key usage; the root has none, so that both intermediates fit below it.
    pub(crate) fn purpose(&self) -> Option<ExtendedKeyUsagePurpose> {
        match self {
            Self::Device | Self::DevicesIntermediate { .. } => Some(ExtendedKeyUsagePurpose::ClientAuth),
            Self::Server | Self::ServicesIntermediate => Some(ExtendedKeyUsagePurpose::ServerAuth),
            Self::Root => None,
        }
    }

    /// The DNS subtree that certificates below must lie in. DNS only: rustls refuses every certificate
    /// under a constraint on directory names.
    pub(crate) fn permitted_subtree(&self) -> Option<&str> {
        match self {
            Self::DevicesIntermediate { subtree } => Some(subtree),
            _ => None,
        }
    }
}

fn leaf_lifetime(lifetime: Duration) -> Result<Duration, ProfileError> {
    if (Duration::from_secs(1)..=10 * YEAR).contains(&lifetime) {
        Ok(lifetime)
    } else {
        Err(ProfileError::Lifetime)
    }
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// How far before its making a certificate begins, for devices whose clock is late.
pub(crate) const BACKDATE: Duration = Duration::from_secs(3600);

const YEAR: Duration = Duration::from_secs(365 * 86_400 + 86_400 / 4);
