//! The OpenAPI document: the rooms' own descriptions of their operations, put together and served.

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use runtime::http::{Caller, Problem, Refused, Routes};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Server,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

/// One document of the rooms' parts. What is at the device door names that door as its server.
pub(super) fn document(
    rooms: impl Iterator<Item = utoipa::openapi::OpenApi>,
    user_url: &str,
    device_url: &str,
) -> utoipa::openapi::OpenApi {
    let mut document = rooms.fold(Frame::openapi(), utoipa::openapi::OpenApi::merge_from);
    document.servers = Some(vec![Server::new(user_url)]);
    let device_door = Server::new(format!("https://{device_url}"));
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/device/") {
            item.servers = Some(vec![device_door.clone()]);
        }
    }
    document
}

/// `GET /v1/openapi.json`.
pub(super) fn routes(document: &utoipa::openapi::OpenApi) -> Routes {
    let text = document.to_json().expect("a document made of strings is JSON");
    let text = Bytes::from(text);
    Routes::new().get("/v1/openapi.json", Caller::Anyone, move || std::future::ready(show(&text)))
}

/// This document
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "about",
    operation_id = "showOpenApi",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object), Refused),
    security(()),
)]
fn show(text: &Bytes) -> Response {
    let mut response = Response::new(Body::from(text.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    response
}

/// What belongs to no room.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "TCPMux",
        description = "Devices of people, reached through their cloud. Errors are problem documents (RFC 9457) with \
                       a `code` that stays the same between versions. What is absent and what is not yours to see \
                       have one answer. Lists come in pages: ask for the next one with `next_cursor`.",
    ),
    paths(show),
    components(schemas(Problem)),
    modifiers(&Schemes),
    tags((name = "about", description = "What this cloud is.")),
)]
struct Frame;

/// The ways in which callers prove who they are.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, description) in [
            ("user", "A token of the identity provider."),
            ("proxytoken", "A token of `POST /v1/token`."),
            ("device", "A device token; or, in its place, the device's certificate in the handshake."),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.bearer_format = Some("JWT".into());
            scheme.description = Some(description.into());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        let said = "The certificate of a device, known and not revoked, in the TLS handshake.";
        let certificate = SecurityScheme::MutualTls { description: Some(said.into()), extensions: None };
        components.add_security_scheme("devicecertificate", certificate);
        let said = "Of `POST /v1/tickets`: once, within a minute.";
        let ticket = ApiKey::Query(ApiKeyValue::with_description("ticket", said));
        components.add_security_scheme("ticket", SecurityScheme::ApiKey(ticket));
    }
}
