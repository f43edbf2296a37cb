//! What the operator wrote: defaults < file < environment < flags, and where each value came from.

mod layers;
mod settings;

pub use layers::{Layers, Origin};
pub(crate) use settings::split_host_port;
pub use settings::{
    Authorizer, CaSettings, Config, Cors, DeviceCa, DeviceIdSource, Drain, Fcm, Listen, Oidc, Publish, Role,
    Store, Tls, WebhookSettings,
};
