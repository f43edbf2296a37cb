//! What a person may see of the log: decided here and nowhere else.
//!
//! - events of a device on which the person holds a live grant, since its last release;
//! - changes of rights: one's own, and on one's own devices everybody's;
//! - whatever is about oneself. Events of the tenant are for operators alone.

use std::collections::HashMap;

use model::{DeviceId, Level, TenantName, Timestamp, UserId};
use store::{EventRow, Store, StoreError, WatchedDevice};

use super::feed::Interest;

/// A person's view at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    user: UserId,
    devices: HashMap<DeviceId, Seen>,
    /// When the next grant among them ends.
    next_end: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    level: Level,
    until: Option<Timestamp>,
    floor: u64,
}

impl Sight {
    /// What a person may see now, as far as the interest goes.
    pub(crate) async fn load(
        store: &Store,
        tenant: &TenantName,
        user: &UserId,
        interest: &Interest,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let watched = store.watched_devices(tenant, user).await?;
        Ok(Self::of(user.clone(), watched, interest, now))
    }

    fn of(user: UserId, watched: Vec<WatchedDevice>, interest: &Interest, now: Timestamp) -> Self {
        let live = |one: &WatchedDevice| one.until.is_none_or(|until| now < until);
        let devices: HashMap<_, _> = watched
            .into_iter()
            .filter(|one| live(one) && interest.covers(&one.device))
            .map(|WatchedDevice { device, level, until, floor }| (device, Seen { level, until, floor }))
            .collect();
        let next_end = devices.values().filter_map(|seen| seen.until).min();
        Self { user, devices, next_end }
    }

    /// Whether the person may see this event of their tenant, for which the interest was looked at.
    pub(crate) fn sees(&self, row: &EventRow, now: Timestamp) -> bool {
        if row.event.user.as_ref() == Some(&self.user) {
            return true;
        }
        let Some(seen) = row.event.device.as_ref().and_then(|device| self.devices.get(device)) else {
            return false;
        };
        let is_live = seen.until.is_none_or(|until| now < until);
        let is_others_right = row.event.subject == "grant.changed" && seen.level < Level::Owner;
        is_live && row.seq > seen.floor && !is_others_right
    }

    /// Whether a grant that this view stands on has ended by now.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.next_end.is_some_and(|end| end <= now)
    }

    /// Whether a device is missing that was seen earlier.
    pub(crate) fn has_lost(&self, earlier: &Self) -> bool {
        earlier.devices.keys().any(|device| !self.devices.contains_key(device))
    }

    /// Since when the person sees a device's events, and whether as its owner; `None` if not at all.
    pub(crate) fn of_device(&self, device: &DeviceId) -> Option<(u64, bool)> {
        self.devices.get(device).map(|seen| (seen.floor, seen.level == Level::Owner))
    }
}
