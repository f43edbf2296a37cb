//! How this machine reaches its cloud.

use std::net::IpAddr;

use crate::Proxies;

/// From which of this machine's addresses, and through which proxy. The default leaves both to the system: no proxy.
#[derive(Debug, Clone, Default)]
pub struct WayOut {
    /// Proxies, where there are any.
    pub proxies: Proxies,
    /// The address of this machine that connections to the cloud, or to its proxy, come from: for a machine with
    /// several ways out. The system chooses without it.
    pub from: Option<IpAddr>,
}
