//! Tenants, for operators.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use model::{AdminActor, Code, Refusal, TenantName};
use runtime::http::{Caller, Page, Routes, answer, done, ok};
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::Inner,
    call::{Call, handler},
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

/// `GET /admin/api/tenants`.
pub(crate) async fn list(api: Arc<Inner>, _: Call<AdminActor>) -> Result<Response, Refusal> {
    let tenants = api.store.tenants().await.map_err(|error| error.refusal("listing tenants"))?;
    let shown =
        |tenant: store::TenantRow| json!({"name": tenant.name, "created_at": tenant.created_at.rfc3339()});
    Ok(ok(&Page::whole(tenants).map(shown)))
}

/// `POST /admin/api/tenants`.
pub(crate) async fn create(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let (by, at) = (call.by(), api.clock.now());
    let Asked { name } = call.json().await?;
    api.store.create_tenant(&name, &by, at).await.map_err(|error| error.refusal("making a tenant"))?;
    Ok(answer(StatusCode::CREATED, &json!({"name": name, "created_at": at.rfc3339()})))
}

/// `DELETE /admin/api/tenants/{name}`.
pub(crate) async fn remove(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let name: TenantName =
        call.name("name").ok_or(Refusal::new(Code::NotFound, "there is no such tenant"))?;
    let removed = api.store.remove_tenant(&name, &call.by(), api.clock.now()).await;
    removed.map_err(|error| error.refusal("removing a tenant"))?;
    Ok(done())
}
