//! Users, devices, grants, tenants and audit, for whoever was proven at the door.
//!
//! Everything here is asked under an actor: a `UserActor` sees the devices granted to them in their tenant, an
//! `AdminActor` names the tenant. No cookie, token or certificate reaches this room. A change is a row first,
//! then it is put into the registry and told; what a caller may not see answers like what is not there.
//!
//! Read [`ClientApi`] first: its route tables, one of each noun, are the whole room. Beside them it notes when
//! devices were connected, and hands out what happens (`events`).

mod admin_devices;
mod admin_grants;
mod agent_calls;
mod api;
mod audit;
mod call;
mod claiming;
mod claims;
mod conditions;
mod device;
mod device_edit;
mod device_self;
mod events;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod granting;
mod intake_step;
mod me;
mod notifications;
mod openapi;
mod ownership;
mod rates;
mod reach;
mod removal;
mod report_shapes;
mod reports;
mod sightings;
mod telling;
mod tenant_deletion;
mod tenants;
mod user_connections;
mod user_devices;
mod user_grants;
mod wrong_codes;

#[cfg(test)]
mod claiming_tests;
#[cfg(test)]
mod fake_devices;
#[cfg(test)]
mod testing;

pub use api::{ClientApi, FactoryReset, Parts};
pub use events::forgetting::Retention;
pub use intake_step::IntakeStep;
pub use notifications::{Outlets, Push, PushSender, WebhookSigner};
pub use openapi::openapi;
pub use removal::DeviceRemoval;
pub use reports::ReportRates;
