//! Who am I?

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use axum::response::Response;
use model::{Refusal, TenantName, UserActor, UserId};
use runtime::http::{Caller, Refused, Routes, Unproven, ok};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/v1/me", Caller::User, handler(api, show))
}

/// A person as this cloud knows them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "usr_0123456789abcdef0123456789abcdef", "issuer": "https://login.example.com",
    "subject": "248289761001", "email": "alice@example.com", "tenant": "default",
}))]
struct Me {
    /// What others share devices with: tell it to whoever wants to share one with you.
    #[schema(value_type = String, pattern = "^usr_[0-9a-f]{32}$")]
    id: UserId,
    /// The provider that vouches for you.
    issuer: String,
    /// What the provider calls you.
    subject: String,
    /// The address that the provider told, for showing only.
    email: Option<String>,
    /// The only tenant that you can see.
    #[schema(value_type = String)]
    tenant: TenantName,
}

/// Who the caller is
///
/// The first call of a person makes the user.
#[utoipa::path(
    get,
    path = "/v1/me",
    tag = "people",
    operation_id = "showMe",
    responses((status = 200, description = "The caller.", body = Me), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) fn show(_: Arc<Inner>, call: Call<UserActor>) -> Ready<Result<Response, Refusal>> {
    let user = &call.actor;
    ready(Ok(ok(&Me {
        id: user.user().clone(),
        issuer: user.issuer().to_owned(),
        subject: user.subject().to_owned(),
        email: user.email().map(str::to_owned),
        tenant: user.tenant().clone(),
    })))
}
