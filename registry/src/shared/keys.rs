//! The names of what lies in the shared registry.

use model::{DeviceRef, TenantName, TicketDigest, UserId};

pub(super) const PREFIX: &str = "tcpmux:";
/// Node → end of its lease.
pub(super) const NODES: &str = "tcpmux:nodes";
/// Node → how many sessions it holds.
pub(super) const COUNTS: &str = "tcpmux:node-sessions";
/// The highest generation that was given.
pub(super) const COUNTER: &str = "tcpmux:generation";
/// What the nodes tell each other.
pub(super) const BUS: &str = "tcpmux:bus";
/// Every unused ticket → its end.
pub(super) const TICKETS: &str = "tcpmux:tickets";

pub(super) fn session(device: &DeviceRef) -> String {
    format!("{PREFIX}session:{}/{}", device.tenant, device.device)
}

pub(super) fn ticket(digest: &TicketDigest) -> String {
    format!("{PREFIX}ticket:{digest}")
}

/// A user's unused tickets → their ends.
pub(super) fn tickets_of(tenant: &TenantName, user: &UserId) -> String {
    format!("{PREFIX}tickets:{tenant}/{user}")
}
