//! What the operator wrote: defaults < file < environment < flags, and where each value came from.

mod device_gateway;
mod layers;
mod settings;

pub use device_gateway::DeviceGateway;
pub use layers::{Layers, Origin};
pub(crate) use settings::split_host_port;
pub use settings::{
    Authorizer, CaSettings, Config, Cors, DeviceCa, DeviceIdSource, Drain, Events, FactoryReset, Fcm, Listen,
    LiveState, Oidc, Publish, Role, Store, Tls, WebhookSettings,
};
