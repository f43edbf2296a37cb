//! Proven callers. A room that is handed an actor need not, and cannot, look at a credential.

use crate::{DeviceRef, Fingerprint, TenantName, UserId};

/// Lets a door make actors. There is one per process: the roof makes it and hands it to the doors.
#[derive(Debug, Clone)]
pub struct DoorKey(());

impl DoorKey {
    /// Makes the key. For the roof and for tests alone; a source test holds this.
    pub fn cut() -> Self {
        Self(())
    }
}

/// A person whose identity provider vouched for them just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserActor {
    user: UserId,
    tenant: TenantName,
    issuer: String,
    subject: String,
    email: Option<String>,
}

impl UserActor {
    /// Made by the user door after it has verified a token.
    pub fn new(
        _: &DoorKey,
        user: UserId,
        tenant: TenantName,
        issuer: String,
        subject: String,
        email: Option<String>,
    ) -> Self {
        Self { user, tenant, issuer, subject, email }
    }

    /// Who it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The only tenant that this actor can see.
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// The provider that vouched.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The provider's name for the person; with [`Self::issuer`] the identity, never the e-mail.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The address that the provider told; for showing only.
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }
}

/// A device that proved the key of an active certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceActor {
    device: DeviceRef,
    certificate: Fingerprint,
}

impl DeviceActor {
    /// Made by the device door after the handshake and the registry's admission.
    pub fn new(_: &DoorKey, device: DeviceRef, certificate: Fingerprint) -> Self {
        Self { device, certificate }
    }

    /// Which device.
    pub fn device(&self) -> &DeviceRef {
        &self.device
    }

    /// The certificate that it showed.
    pub fn certificate(&self) -> Fingerprint {
        self.certificate
    }
}

/// An operator who holds the admin key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminActor {
    source: String,
}

impl AdminActor {
    /// Made by the admin door after it has compared the key. `source` is the caller's address, for audit.
    pub fn new(_: &DoorKey, source: String) -> Self {
        Self { source }
    }

    /// Where the call came from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Any proven caller, as audit rows name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person.
    User(UserActor),
    /// A device.
    Device(DeviceActor),
    /// An operator.
    Admin(AdminActor),
    /// The cloud itself, as when it renews its own certificates.
    System,
}

impl Actor {
    /// The text that an audit row keeps.
    pub fn audit_name(&self) -> String {
        match self {
            Self::User(user) => format!("user:{}", user.user()),
            Self::Device(device) => format!("device:{}", device.device()),
            Self::Admin(admin) => format!("admin@{}", admin.source()),
            Self::System => "system".into(),
        }
    }
}
