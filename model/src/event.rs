//! What happened, for those who may know.

use serde::{Deserialize, Serialize};

use crate::{DeviceRef, Fingerprint, Generation, NodeId, SessionId, TenantName, Timestamp, UserId};

/// Why a device's session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectCause {
    /// The device said goodbye.
    Closed,
    /// The connection was reset or ended without a goodbye.
    Lost,
    /// Nothing was heard for longer than the liveness limit.
    Silent,
    /// A newer session of the same device took over.
    Replaced,
    /// The certificate was revoked, or the device removed.
    Revoked,
    /// The certificate reached its end.
    Expired,
    /// This server is going away.
    Draining,
    /// The peer broke the protocol.
    Protocol,
}

impl DisconnectCause {
    /// The word in events, goodbyes and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Draining => "draining",
            Self::Protocol => "protocol",
        }
    }
}

/// Something that happened. The topic is `<tenant>.<subject>`.
///
/// Its JSON goes from node to node. A node that is older than the sender does not know every kind: it skips
/// what it cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A device's session stands and is served.
    DeviceConnected {
        /// Which device.
        device: DeviceRef,
        /// Its session.
        session: SessionId,
        /// Its fencing number.
        generation: Generation,
        /// The node that holds it.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// A device's session ended.
    DeviceDisconnected {
        /// Which device.
        device: DeviceRef,
        /// Its session.
        session: SessionId,
        /// Its fencing number.
        generation: Generation,
        /// Why.
        cause: DisconnectCause,
        /// When.
        at: Timestamp,
    },
    /// The same certificate is used from two places that take turns.
    CloneSuspected {
        /// Which device.
        device: DeviceRef,
        /// When.
        at: Timestamp,
    },
    /// A certificate whose chain verified was not admitted: the sign of a stolen CA key, of a restored backup,
    /// or of a device that was removed.
    DeviceRefused {
        /// The device that the certificate names.
        device: DeviceRef,
        /// The certificate.
        certificate: Fingerprint,
        /// Why, in words.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// A user's rights on a device changed; requests decided by an older state are refused.
    GrantChanged {
        /// Which device.
        device: DeviceRef,
        /// Which user.
        user: UserId,
        /// The tenant's grant sequence number after the change.
        sequence: u64,
        /// When.
        at: Timestamp,
    },
    /// A certificate was issued, for a first time or in renewal.
    CertificateIssued {
        /// Which device.
        device: DeviceRef,
        /// Which certificate.
        certificate: Fingerprint,
        /// Whether it succeeds an earlier one.
        renewal: bool,
        /// When.
        at: Timestamp,
    },
    /// A certificate was revoked.
    CertificateRevoked {
        /// Which device.
        device: DeviceRef,
        /// Which certificate.
        certificate: Fingerprint,
        /// The revocation sequence number.
        sequence: u64,
        /// When.
        at: Timestamp,
    },
    /// A device has an owner now.
    DeviceClaimed {
        /// Which device.
        device: DeviceRef,
        /// Its owner.
        user: UserId,
        /// When.
        at: Timestamp,
    },
    /// A device's owner has let it go; nobody's rights on it are left.
    DeviceReleased {
        /// Which device.
        device: DeviceRef,
        /// Who owned it.
        user: UserId,
        /// When.
        at: Timestamp,
    },
    /// A tenant is served from now on.
    TenantCreated {
        /// Which tenant.
        tenant: TenantName,
        /// When.
        at: Timestamp,
    },
    /// A tenant is not served any more.
    TenantDeleted {
        /// Which tenant.
        tenant: TenantName,
        /// When.
        at: Timestamp,
    },
}

/// The types of events that people can be told of, as topics, filters and webhooks name them.
pub const EVENT_TYPES: &[&str] = &[
    "certificate.issued",
    "certificate.renewed",
    "certificate.revoked",
    "device.claimed",
    "device.clone_suspected",
    "device.connected",
    "device.disconnected",
    "device.released",
    "device.removed",
    "device.transferred",
    "grant.changed",
    "notification",
    "telemetry",
    "webhook.disabled",
];

impl Event {
    /// The subject part of the topic, also the CloudEvents `type`.
    pub fn subject(&self) -> &'static str {
        match self {
            Self::DeviceConnected { .. } => "device.connected",
            Self::DeviceDisconnected { .. } => "device.disconnected",
            Self::CloneSuspected { .. } => "device.clone_suspected",
            Self::DeviceRefused { .. } => "device.refused",
            Self::GrantChanged { .. } => "grant.changed",
            Self::CertificateIssued { renewal: false, .. } => "certificate.issued",
            Self::CertificateIssued { renewal: true, .. } => "certificate.renewed",
            Self::CertificateRevoked { .. } => "certificate.revoked",
            Self::DeviceClaimed { .. } => "device.claimed",
            Self::DeviceReleased { .. } => "device.released",
            Self::TenantCreated { .. } => "tenant.created",
            Self::TenantDeleted { .. } => "tenant.deleted",
        }
    }

    /// The device that the event is about, if it is about one.
    pub fn device(&self) -> Option<&DeviceRef> {
        match self {
            Self::DeviceConnected { device, .. }
            | Self::DeviceDisconnected { device, .. }
            | Self::CloneSuspected { device, .. }
            | Self::DeviceRefused { device, .. }
            | Self::GrantChanged { device, .. }
            | Self::CertificateIssued { device, .. }
            | Self::CertificateRevoked { device, .. }
            | Self::DeviceClaimed { device, .. }
            | Self::DeviceReleased { device, .. } => Some(device),
            Self::TenantCreated { .. } | Self::TenantDeleted { .. } => None,
        }
    }

    /// The tenant whose event it is.
    pub fn tenant(&self) -> &TenantName {
        match self {
            Self::DeviceConnected { device, .. }
            | Self::DeviceDisconnected { device, .. }
            | Self::CloneSuspected { device, .. }
            | Self::DeviceRefused { device, .. }
            | Self::GrantChanged { device, .. }
            | Self::CertificateIssued { device, .. }
            | Self::CertificateRevoked { device, .. }
            | Self::DeviceClaimed { device, .. }
            | Self::DeviceReleased { device, .. } => &device.tenant,
            Self::TenantCreated { tenant, .. } | Self::TenantDeleted { tenant, .. } => tenant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> DeviceRef {
        DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap())
    }

    fn one_of_each() -> Vec<Event> {
        let (device, at) = (camera(), Timestamp(7));
        let (user, certificate) = (UserId::from_random([1; 16]), Fingerprint([2; 32]));
        let (session, generation) = (SessionId::from_random([3; 16]), Generation(1 << 40));
        let node = NodeId::from_random([4; 16]);
        let reason = String::from("the certificate is not in the registry");
        let tenant = TenantName::default();
        vec![
            Event::DeviceConnected { device: device.clone(), session: session.clone(), generation, node, at },
            Event::DeviceDisconnected {
                device: device.clone(),
                session,
                generation,
                cause: DisconnectCause::Silent,
                at,
            },
            Event::CloneSuspected { device: device.clone(), at },
            Event::DeviceRefused { device: device.clone(), certificate, reason, at },
            Event::GrantChanged { device: device.clone(), user: user.clone(), sequence: 9, at },
            Event::CertificateIssued { device: device.clone(), certificate, renewal: true, at },
            Event::CertificateRevoked { device: device.clone(), certificate, sequence: 3, at },
            Event::DeviceClaimed { device: device.clone(), user: user.clone(), at },
            Event::DeviceReleased { device, user, at },
            Event::TenantCreated { tenant: tenant.clone(), at },
            Event::TenantDeleted { tenant, at },
        ]
    }

    #[test]
    fn every_event_survives_its_json() {
        for event in one_of_each() {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        }
    }

    #[test]
    fn an_event_of_a_later_version_is_an_error_to_skip_and_more_members_are_none() {
        assert!(serde_json::from_str::<Event>(r#"{"kind":"device_painted","colour":"red"}"#).is_err());
        let text =
            serde_json::to_string(&Event::CloneSuspected { device: camera(), at: Timestamp(7) }).unwrap();
        let text = text.replacen('{', r#"{"certainty":0.9,"#, 1);
        assert!(serde_json::from_str::<Event>(&text).is_ok(), "{text}");
    }

    #[test]
    fn an_event_of_a_tenant_is_about_no_device() {
        let about = |event: &Event| (event.device().is_some(), event.subject().starts_with("tenant."));
        assert!(one_of_each().iter().all(|event| about(event).0 != about(event).1));
        assert!(one_of_each().iter().all(|event| *event.tenant() == TenantName::default()));
    }
}
