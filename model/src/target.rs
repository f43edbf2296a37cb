//! Which device, and which service on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DeviceId, ServiceName, TenantName};

/// A device, named completely: device ids are unique within a tenant only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceRef {
    /// The tenant that the device belongs to.
    pub tenant: TenantName,
    /// The device's id in that tenant.
    pub device: DeviceId,
}

impl DeviceRef {
    /// Joins the two names.
    pub fn new(tenant: TenantName, device: DeviceId) -> Self {
        Self { tenant, device }
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.device)
    }
}

/// Reads the first label of a device's own host: `{device}` (service `web`) or `{service}--{device}`.
/// `None` for what names no device, or does not fit a label.
pub fn read_host_label(label: &str) -> Option<(DeviceId, ServiceName)> {
    let (service, device) = label.split_once("--").unwrap_or((DEFAULT_SERVICE, label));
    (label.len() <= LABEL_LENGTH).then(|| Some((device.parse().ok()?, service.parse().ok()?)))?
}

/// The first label of a device's own host; `None` where the names do not fit one.
pub fn host_label(device: &DeviceId, service: &ServiceName) -> Option<String> {
    let label =
        if service.as_str() == DEFAULT_SERVICE { device.to_string() } else { format!("{service}--{device}") };
    (label.len() <= LABEL_LENGTH).then_some(label)
}

/// The service that a device's own host leads to when it names none.
const DEFAULT_SERVICE: &str = "web";
/// RFC 1035 §2.3.4.
const LABEL_LENGTH: usize = 63;

/// Where a stream goes: a service of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The device.
    pub device: DeviceRef,
    /// The service on it.
    pub service: ServiceName,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_a_device_and_perhaps_a_service() {
        for (label, device, service) in [("cam-01", "cam-01", "web"), ("api--cam-01", "cam-01", "api")] {
            let read = read_host_label(label).unwrap();
            assert_eq!((read.0.as_str(), read.1.as_str()), (device, service));
            assert_eq!(host_label(&read.0, &read.1).as_deref(), Some(label));
        }
        let long = "a".repeat(64);
        let long_pair = format!("{}--{}", "s".repeat(32), "d".repeat(32));
        for bad in ["", "a.b", "UPPER", "a--b--c", "--a", "a--", &long, &long_pair] {
            assert_eq!(read_host_label(bad), None, "{bad}");
        }
        assert_eq!(host_label(&"d".repeat(60).parse().unwrap(), &"api".parse().unwrap()), None);
    }
}
