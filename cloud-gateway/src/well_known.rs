//! What anybody may know of this cloud.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::header::{CACHE_CONTROL, HeaderValue};
use runtime::http::{Caller, Refused, Routes};
use serde_json::{Value, json};

use crate::{authorizer::Authorizer, oidc::Providers};

/// What `/.well-known/tcpmux` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The program's version.
    pub version: String,
    /// `sha256:` and 64 hex digits: the root's fingerprint, where there is a CA of our own.
    pub ca_fingerprint: Option<String>,
    /// The public URL, without a slash at its end.
    pub user: String,
    /// Host and port of the device door.
    pub device: String,
    /// The domain of the host form, where it is offered.
    pub device_domain: Option<String>,
}

/// `GET /.well-known/jwks.json` and `GET /.well-known/tcpmux`.
pub(crate) fn routes(authorizer: &Arc<Authorizer>, endpoints: &Endpoints, sign_in: &Value) -> Routes {
    let jwks = authorizer.jwks().clone();
    let about = about(endpoints, authorizer.issuer(), sign_in);
    Routes::new().get("/.well-known/jwks.json", Caller::Anyone, move || std::future::ready(keys(&jwks))).get(
        "/.well-known/tcpmux",
        Caller::Anyone,
        move || std::future::ready(about_this_cloud(&about)),
    )
}

/// The keys that proxy tokens are signed with
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "tokens",
    operation_id = "listKeys",
    responses((status = 200, description = "A JWK set (RFC 7517).", body = Object), Refused),
    security(()),
)]
fn keys(set: &Value) -> Response {
    answer(set)
}

/// Version, CA fingerprint and addresses of this cloud
#[utoipa::path(
    get,
    path = "/.well-known/tcpmux",
    tag = "tokens",
    operation_id = "aboutThisCloud",
    responses((status = 200, description = "What any handshake shows too.", body = Object), Refused),
    security(()),
)]
fn about_this_cloud(about: &Value) -> Response {
    answer(about)
}

fn about(endpoints: &Endpoints, issuer: &str, sign_in: &Value) -> Value {
    let user = endpoints.user.trim_end_matches('/');
    json!({
        "version": endpoints.version,
        "ca_fingerprint": endpoints.ca_fingerprint,
        "issuer": issuer,
        "sign_in": sign_in,
        "endpoints": {
            "user": user,
            "device": endpoints.device,
            "device_domain": endpoints.device_domain,
            "token": format!("{user}/v1/token"),
            "jwks": format!("{user}/.well-known/jwks.json"),
        },
    })
}

/// With which providers and as which client a person's command line signs in: public client ids, no secrets.
pub(crate) fn for_the_command_line(providers: &Providers) -> Value {
    let clients = providers.all().iter().filter_map(|provider| {
        let client = provider.sign_in.cli_client.as_ref()?;
        let (issuer, scopes) = (provider.keys.issuer(), &provider.sign_in.scopes);
        Some(json!({"name": provider.name(), "issuer": issuer, "client_id": client, "scopes": scopes}))
    });
    Value::Array(clients.collect())
}

fn answer(body: &Value) -> Response {
    ([(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"))], Json(body)).into_response()
}
