//! What this room tells of itself in the OpenAPI document: one line for each operation.

use utoipa::OpenApi;

use crate::{ticket_routes, token_routes, well_known};

/// This room's operations at the user door.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Operations::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(ticket_routes::issue, token_routes::for_user, well_known::keys, well_known::about_this_cloud),
    tags(
        (name = "tokens", description = "Tokens for the proxy, and what it takes to check them."),
    )
)]
struct Operations;
