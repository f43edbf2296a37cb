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
