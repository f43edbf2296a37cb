//! Giving and taking rights, for operators. Effective on the next request, and on live streams at once.

use std::sync::Arc;

use axum::response::Response;
use model::{AdminActor, Refusal, UserId};
use runtime::http::{Caller, Routes, done, ok};

use crate::{
    admin_devices::named,
    api::Inner,
    call::{Call, handler},
    granting::{Asked, Granted, no_grant, no_user},
    ownership, telling,
};

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    const GRANT: &str = "/admin/api/devices/{id}/grants/{user}";
    Routes::new().put(GRANT, Caller::Admin, handler(api, put)).delete(
        GRANT,
        Caller::Admin,
        handler(api, remove),
    )
}

/// `PUT /admin/api/devices/{id}/grants/{user}`.
pub(crate) async fn put(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let device = named(&api, &call).await?;
    let user: UserId = call.name("user").ok_or_else(no_user)?;
    let by = call.by();
    let at = api.clock.now();
    let grant = call.json::<Asked>().await?.grant(at)?;
    let answer = Granted::of(&device.device, &user, &grant);
    let putting = Arc::clone(&api);
    api.to_its_end(async move {
        let sequence = putting.store.put_grant(&device.tenant, &device.device, &user, grant, &by, at).await;
        let sequence = sequence.map_err(|error| error.refusal("putting a grant"))?;
        telling::of_user(&putting, device.clone(), user, sequence, at);
        ownership::may_have_changed(&putting, &device);
        Ok(())
    })
    .await?;
    Ok(ok(&answer))
}

/// `DELETE /admin/api/devices/{id}/grants/{user}`.
pub(crate) async fn remove(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let device = named(&api, &call).await?;
    let user: UserId = call.name("user").ok_or_else(no_user)?;
    let by = call.by();
    let at = api.clock.now();
    let removing = Arc::clone(&api);
    api.to_its_end(async move {
        let sequence = removing.store.remove_grant(&device.tenant, &device.device, &user, &by, at).await;
        let sequence = sequence.map_err(|error| error.refusal("removing a grant"))?;
        telling::of_user(&removing, device.clone(), user, sequence.ok_or_else(no_grant)?, at);
        ownership::may_have_changed(&removing, &device);
        Ok(())
    })
    .await?;
    Ok(done())
}
