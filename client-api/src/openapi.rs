//! What this room tells of itself in the OpenAPI document: one line for each operation.

use utoipa::OpenApi;

use crate::{
    claims, device_edit, device_self,
    events::{event_stream, history, topic_socket},
    me,
    notifications::{apps, deliveries, inbox, settings, webhooks},
    ownership, reports, user_connections, user_devices, user_grants,
};

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
        inbox::list,
        inbox::read,
        settings::show,
        settings::put,
        webhooks::list,
        webhooks::create,
        webhooks::show,
        webhooks::change,
        webhooks::remove,
        webhooks::rotate,
        deliveries::test,
        deliveries::list,
        deliveries::redeliver,
        apps::list,
        apps::register,
        apps::forget,
        reports::telemetry,
        reports::notifications,
        device_self::show,
        claims::claim,
        ownership::release,
        ownership::offer,
        ownership::list,
        ownership::accept,
        ownership::end,
        ownership::reset,
        event_stream::listen,
        topic_socket::open,
        history::show,
    ),
    tags(
        (name = "people", description = "Who the caller is."),
        (name = "ownership", description = "Claiming devices, giving them up, handing them on."),
        (name = "devices", description = "The devices that the caller may reach."),
        (name = "sharing", description = "What owners let others do."),
        (name = "notifications", description = "What happened, and how the caller hears of it."),
        (name = "device gateway", description = "What devices report, and ask of themselves."),
        (name = "events", description = "What happened, live and from the log."),
    )
)]
struct Operations;
