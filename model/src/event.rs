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
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

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
        }
    }

    /// The device that the event is about.
    pub fn device(&self) -> &DeviceRef {
        match self {
            Self::DeviceConnected { device, .. }
            | Self::DeviceDisconnected { device, .. }
            | Self::CloneSuspected { device, .. }
            | Self::DeviceRefused { device, .. }
            | Self::GrantChanged { device, .. }
            | Self::CertificateIssued { device, .. }
            | Self::CertificateRevoked { device, .. } => device,
        }
    }

    /// The tenant whose event it is.
    pub fn tenant(&self) -> &TenantName {
        &self.device().tenant
    }
}
