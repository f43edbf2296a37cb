//! The device that a path names, as the caller may reach it. Foreign, absent and not granted have one answer.

use std::future::Future;

use model::{Code, DeviceId, Level, Refusal, UserActor};
use store::Reachable;

use crate::{api::Inner, call::Call};

/// The device named `{id}`.
pub(crate) fn device<'a>(
    api: &'a Inner,
    call: &Call<UserActor>,
) -> impl Future<Output = Result<Reachable, Refusal>> + Send + use<'a> {
    let (device, user): (Option<DeviceId>, UserActor) = (call.name("id"), call.actor.clone());
    async move {
        let device = device.ok_or_else(absent)?;
        let found = api.store.device_of_user(user.tenant(), user.user(), &device, api.clock.now()).await;
        found.map_err(|error| error.refusal("finding a device"))?.ok_or_else(absent)
    }
}

/// Passes owners on.
pub(crate) fn owned(reached: Reachable) -> Result<Reachable, Refusal> {
    if reached.grant.level == Level::Owner {
        Ok(reached)
    } else {
        Err(Refusal::new(Code::LevelOrService, "only the owner of a device may do this"))
    }
}

/// There is nothing that the caller may know of.
pub(crate) fn absent() -> Refusal {
    Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you").with_status(404)
}
