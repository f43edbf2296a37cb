//! What this room tells of itself in the OpenAPI document: one line for each operation.

use utoipa::OpenApi;

use crate::{device_edit, me, user_connections, user_devices, user_grants};

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
        device_edit::edit,
        user_connections::list,
        user_grants::list,
        user_grants::put,
        user_grants::remove,
    ),
    tags(
        (name = "people", description = "Who the caller is."),
        (name = "devices", description = "The devices that the caller may reach."),
        (name = "sharing", description = "What owners let others do."),
    )
)]
struct Operations;
