//! Giving and taking rights, for operators. Effective on the next request, and on live streams at once.

use std::sync::Arc;

use axum::response::Response;
use model::{AdminActor, Code, Grant, Level, Refusal, ServiceName, ServiceSet, Timestamp, UserId};
use runtime::http::{Caller, Routes, done, ok};
use serde::Deserialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    admin_devices::named,
    api::Inner,
    call::{Call, handler},
    telling,
};

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    const GRANT: &str = "/admin/api/devices/{id}/grants/{user}";
    Routes::new().put(GRANT, Caller::Admin, handler(api, put)).delete(
        GRANT,
        Caller::Admin,
        handler(api, remove),
    )
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    level: Level,
    services: Option<Vec<ServiceName>>,
    until: Option<String>,
}

/// `PUT /admin/api/devices/{id}/grants/{user}`.
pub(crate) async fn put(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let device = named(&api, &call).await?;
    let user: UserId = call.name("user").ok_or_else(no_user)?;
    let by = call.by();
    let at = api.clock.now();
    let grant = call.json::<Asked>().await?.grant(at)?;
    let answer = json!({
        "device": device.device,
        "user": user,
        "level": grant.level,
        "services": grant.services,
        "until": grant.until.map(Timestamp::rfc3339),
    });
    let putting = Arc::clone(&api);
    api.to_its_end(async move {
        let sequence = putting.store.put_grant(&device.tenant, &device.device, &user, grant, &by, at).await;
        let sequence = sequence.map_err(|error| error.refusal("putting a grant"))?;
        telling::of_user(&putting, device, user, sequence, at);
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
        let none = || Refusal::new(Code::NotFound, "this user has no grant on this device");
        telling::of_user(&removing, device, user, sequence.ok_or_else(none)?, at);
        Ok(())
    })
    .await?;
    Ok(done())
}

impl Asked {
    fn grant(self, now: Timestamp) -> Result<Grant, Refusal> {
        let bad = |detail: &'static str| Refusal::new(Code::BadRequest, detail);
        if self.services.as_ref().is_some_and(|services| services.len() > MOST_SERVICES) {
            return Err(bad("services: at most 64; leave it out to grant all"));
        }
        let until = self.until.as_deref().map(moment).transpose();
        let until = until.map_err(|()| bad("until: write a time as in 2027-01-31T12:00:00Z"))?;
        if until.is_some_and(|until| until <= now) {
            return Err(bad("until: is in the past"));
        }
        let services = self.services.map_or_else(ServiceSet::all, ServiceSet::only);
        Ok(Grant { level: self.level, services, until })
    }
}

fn moment(text: &str) -> Result<Timestamp, ()> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ())?;
    Ok(Timestamp::from_secs(moment.unix_timestamp()))
}

fn no_user() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such user; the id is the one that GET /v1/me shows")
}

const MOST_SERVICES: usize = 64;
