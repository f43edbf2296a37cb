//! The name space of one deployment's device certificates.

use std::{fmt, str::FromStr};

use model::{DeviceRef, TenantName};

/// The deployment's own domain, as in `k3f7q2xa.tcpmux.internal`: fixed at first start, never resolved by DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeploymentDomain(String);

/// Why a text is not a deployment domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be a deployment domain: write two or more labels of a-z, 0-9 and '-' joined by dots, at most 48 characters"
)]
pub struct DomainError(String);

impl DeploymentDomain {
    /// Makes `<8 characters>.tcpmux.internal` from 40 random bits.
    pub fn from_random(random: [u8; 5]) -> Self {
        let bits = random.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
        let label: String =
            (0..8).map(|index| char::from(LETTERS[(bits >> (index * 5) & 31) as usize])).collect();
        Self(format!("{label}.tcpmux.internal"))
    }

    /// The domain's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The subtree that every device certificate's name lies in: `device.<domain>`.
    pub fn device_subtree(&self) -> String {
        format!("device.{}", self.0)
    }

    /// The name in a device's certificate: `<device>.<tenant>.device.<domain>`, at most 183 characters.
    pub fn device_name(&self, device: &DeviceRef) -> String {
        format!("{}.{}.device.{}", device.device, device.tenant, self.0)
    }

    /// Whose name this is; `None` if it is not exactly what [`Self::device_name`] writes for some device.
    pub fn device_of(&self, name: &str) -> Option<DeviceRef> {
        let labels = name.strip_suffix(self.0.as_str())?.strip_suffix(".device.")?;
        let (device, tenant) = labels.split_once('.')?;
        Some(DeviceRef::new(tenant.parse::<TenantName>().ok()?, device.parse().ok()?))
    }
}

impl FromStr for DeploymentDomain {
    type Err = DomainError;
    fn from_str(text: &str) -> Result<Self, DomainError> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= LONGEST && text.contains('.') && text.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DomainError(text.chars().take(LONGEST + 1).collect()))
        }
    }
}

impl fmt::Display for DeploymentDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Leaves room in the intermediates' common names, which have at most 64 characters (RFC 5280 appendix A).
const LONGEST: usize = 48;

/// Base 32 without the letters that are mistaken for digits or for each other.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_domain_is_a_domain() {
        for random in [[0; 5], [255; 5], [1, 2, 3, 4, 5]] {
            let domain = DeploymentDomain::from_random(random);
            assert_eq!(domain.as_str().parse(), Ok(domain.clone()));
            assert_eq!(domain.as_str().len(), "12345678.tcpmux.internal".len());
        }
        assert_ne!(DeploymentDomain::from_random([0; 5]), DeploymentDomain::from_random([0, 0, 0, 0, 1]));
    }

    #[test]
    fn a_device_name_reads_back_as_the_device() {
        let domain: DeploymentDomain = "abcd2345.tcpmux.internal".parse().unwrap();
        let device = DeviceRef::new("acme".parse().unwrap(), "cam-01".parse().unwrap());
        let name = domain.device_name(&device);
        assert_eq!(name, "cam-01.acme.device.abcd2345.tcpmux.internal");
        assert_eq!(domain.device_of(&name), Some(device));
        for other in [
            "cam-01.device.abcd2345.tcpmux.internal",
            "a.cam-01.acme.device.abcd2345.tcpmux.internal",
            "cam-01.acme.device.abcd2345.tcpmux.internal.",
            "cam-01.acme.device.xbcd2345.tcpmux.internal",
            "CAM-01.acme.device.abcd2345.tcpmux.internal",
            "cam-01.acme.server.abcd2345.tcpmux.internal",
            "*.acme.device.abcd2345.tcpmux.internal",
            ".acme.device.abcd2345.tcpmux.internal",
            "cam-01.acme.device.abcd2345.tcpmux.internal\0",
            "",
        ] {
            assert_eq!(domain.device_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_not_a_domain() {
        for bad in
            ["", "internal", ".a.b", "a..b", "a.b.", "A.b", "a b.c", "-a.b", &format!("{}.b", "a".repeat(47))]
        {
            assert!(bad.parse::<DeploymentDomain>().is_err(), "{bad:?}");
        }
    }
}
