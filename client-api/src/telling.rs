//! A change of rights that has become a row is told: first to those who decide by it, then to those who listen.

use model::{DeviceRef, Event, Timestamp, UserId};
use registry::GrantChange;

use crate::api::Inner;

/// One user's rights on a device changed.
pub(crate) fn of_user(api: &Inner, device: DeviceRef, user: UserId, sequence: u64, at: Timestamp) {
    decide_by(api, &device, Some(user.clone()), sequence, at);
    api.registry.publish(Event::GrantChanged { device, user, sequence, at });
}

/// Every right on a device ended in one change; `users` had one.
pub(crate) fn of_everybody(
    api: &Inner,
    device: &DeviceRef,
    users: impl IntoIterator<Item = UserId>,
    sequence: u64,
    at: Timestamp,
) {
    decide_by(api, device, None, sequence, at);
    for user in users {
        api.registry.publish(Event::GrantChanged { device: device.clone(), user, sequence, at });
    }
}

/// From here on requests and streams that stand on the older state are refused and ended.
fn decide_by(api: &Inner, device: &DeviceRef, user: Option<UserId>, sequence: u64, at: Timestamp) {
    let (tenant, device) = (device.tenant.clone(), device.device.clone());
    api.registry.grants().put(GrantChange { tenant, user, device, sequence, at });
}
