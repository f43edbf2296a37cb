//! Ending a device's certificates and tunnels: another room's work, asked for through this seam.

use std::{future::Future, pin::Pin};

use model::{Actor, DeviceRef, Refusal};

/// Revokes every certificate of a device and ends its tunnels.
pub trait DeviceRemoval: Send + Sync + 'static {
    /// Returns when the certificates are revoked and the nodes were told. A device without certificates is fine.
    ///
    /// # Errors
    /// A refusal when nothing was revoked; the removal then stops and can be repeated.
    fn revoke_all<'a>(
        &'a self,
        device: &'a DeviceRef,
        by: &'a Actor,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;
}
