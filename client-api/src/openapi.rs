//! What this room tells of itself in the OpenAPI document: one line for each operation.

use utoipa::OpenApi;

use crate::{me, user_devices};

/// This room's operations at the user door and the device door.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Operations::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(
        me::show,
        user_devices::list,
        user_devices::show,
    ),
    tags(
        (name = "people", description = "Who the caller is."),
        (name = "devices", description = "The devices that the caller may reach."),
    )
)]
struct Operations;
