//! Tenants, for operators.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::StatusCode;
use model::{AdminActor, Code, Event, Refusal, TenantName};
use runtime::http::{Caller, Page, Routes, answer as answer_with, done, ok};
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::Inner,
    call::{Call, handler},
    tenant_deletion,
};

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    Routes::new()
        .get("/admin/api/tenants", Caller::Admin, handler(api, list))
        .post("/admin/api/tenants", Caller::Admin, handler(api, create))
        .delete("/admin/api/tenants/{name}", Caller::Admin, handler(api, remove))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: TenantName,
}

/// The query of a deletion. The path names the tenant already; whoever says it twice has to mean the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    confirm: Option<TenantName>,
}

/// `GET /admin/api/tenants`, those being deleted among them.
pub(crate) async fn list(api: Arc<Inner>, _: Call<AdminActor>) -> Result<Response, Refusal> {
    let tenants = api.store.tenants().await.map_err(|error| error.refusal("listing tenants"))?;
    let shown = |tenant: store::TenantRow| {
        json!({
            "name": tenant.name,
            "created_at": tenant.created_at.rfc3339(),
            "status": if tenant.deleting_at.is_some() { "deleting" } else { "active" },
        })
    };
    Ok(ok(&Page::whole(tenants).map(shown)))
}

/// `POST /admin/api/tenants`. The tenant is served at once.
pub(crate) async fn create(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let (by, at) = (call.by(), api.clock.now());
    let Asked { name } = call.json().await?;
    let answer = json!({"name": name, "created_at": at.rfc3339()});
    let creating = Arc::clone(&api);
    api.to_its_end(async move {
        let first = creating.store.create_tenant(&name, &by, at).await;
        let first = first.map_err(|error| error.refusal("making a tenant"))?;
        creating.registry.grants().begin(&name, first);
        tracing::info!(tenant = %name, "tenant created");
        creating.registry.publish(Event::TenantCreated { tenant: name, at });
        Ok(())
    })
    .await?;
    Ok(answer_with(StatusCode::CREATED, &answer))
}

/// `DELETE /admin/api/tenants/{name}`: 204 once nothing of it is left; 202 where that takes longer than a caller
/// should wait. It goes on whether or not anybody waits; asking again waits again.
pub(crate) async fn remove(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let Confirmed { confirm } = call.query()?;
    let absent = || Refusal::new(Code::NotFound, "there is no such tenant");
    let name: TenantName = call.name("name").ok_or_else(absent)?;
    if confirm.is_some_and(|confirm| confirm != name) {
        return Err(Refusal::new(Code::BadRequest, "confirm: names another tenant than the path"));
    }
    let by = call.by();
    let begun = api.store.begin_tenant_deletion(&name, &by, api.clock.now()).await;
    begun.map_err(|error| error.refusal("removing a tenant"))?;
    let deletion = tenant_deletion::begin(&api, &name, by);
    if tokio::time::timeout(LONGEST_WAIT, deletion.ended()).await.is_ok() {
        return Ok(done());
    }
    Ok(answer_with(StatusCode::ACCEPTED, &json!({"name": name, "status": "deleting"})))
}

/// How long a caller waits for the end of a deletion.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
