//! A device as answers show it.

use model::{Level, ServiceName, Timestamp, UserId};
use registry::SessionRecord;
use store::DeviceRow;

use crate::api::Inner;

/// What rows and registry know of a device.
pub(crate) struct Device {
    pub(crate) row: DeviceRow,
    pub(crate) session: Option<SessionRecord>,
    pub(crate) grants: Vec<(UserId, model::Grant)>,
}

impl Device {
    /// Joins the row with the live session and the grants.
    pub(crate) async fn of(api: &Inner, row: DeviceRow) -> Result<Self, model::Refusal> {
        let session = api.registry.lookup(&row.device).await;
        let grants = api.store.grants_on_device(&row.device.tenant, &row.device.device).await;
        let now = api.clock.now();
        let mut grants = grants.map_err(|error| error.refusal("reading the grants of a device"))?;
        grants.retain(|(_, grant)| grant.is_live(now));
        Ok(Self { row, session, grants })
    }

    /// The user who owns it.
    pub(crate) fn owner(&self) -> Option<&UserId> {
        self.grants.iter().find(|(_, grant)| grant.level == Level::Owner).map(|(user, _)| user)
    }

    /// What it serves: as it says now, else as it said last.
    pub(crate) fn services(&self) -> &[ServiceName] {
        self.session.as_ref().map_or(&self.row.services, |session| &session.services)
    }

    /// When it was last known to be there.
    pub(crate) fn verified_at(&self) -> Option<Timestamp> {
        self.session.as_ref().map(|session| session.verified_at).max(self.row.verified_at)
    }
}
