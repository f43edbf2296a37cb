//! A person as far as events are concerned: proven by a provider, by a proxy token or by a ticket.

use std::collections::BTreeMap;

use crate::{DeviceId, DoorKey, Grant, TenantName, Timestamp, UserId};

/// A person who may listen for a while, perhaps to some devices only. What they may hear is decided by the grants
/// that they hold at that moment; what the proof says can only narrow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberActor {
    tenant: TenantName,
    user: UserId,
    devices: Option<BTreeMap<DeviceId, Grant>>,
    grant_sequence: Option<u64>,
    until: Timestamp,
}

impl SubscriberActor {
    /// Made by the user door after it has verified a token or taken a ticket. `devices` are those that the proof is
    /// limited to, `grant_sequence` the state of the grants that it was made from; it holds `until` then.
    pub fn new(
        _: &DoorKey,
        tenant: TenantName,
        user: UserId,
        devices: Option<BTreeMap<DeviceId, Grant>>,
        grant_sequence: Option<u64>,
        until: Timestamp,
    ) -> Self {
        Self { tenant, user, devices, grant_sequence, until }
    }

    /// The only tenant that this actor can see.
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// Who it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The devices that the proof is limited to, with the most that it allows there; `None` for no limit.
    pub fn devices(&self) -> Option<&BTreeMap<DeviceId, Grant>> {
        self.devices.as_ref()
    }

    /// The state of the grants that the proof was made from; `None` where it says nothing of grants.
    pub fn grant_sequence(&self) -> Option<u64> {
        self.grant_sequence
    }

    /// When whatever was opened with the proof has to end.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}
