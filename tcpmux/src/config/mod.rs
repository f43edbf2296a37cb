//! What the operator wrote: defaults < file < environment < flags, and where each value came from.

mod device_gateway;
mod layers;
mod people;
mod settings;

pub use device_gateway::DeviceGateway;
pub use layers::{Layers, Origin};
pub use people::{Claims, Events, FactoryReset, Fcm, WebhookSettings};
pub(crate) use settings::split_host_port;
pub use settings::{
    Authorizer, CaSettings, Config, Cors, DeviceCa, DeviceIdSource, Drain, Listen, LiveState, Oidc, Publish,
    Role, Store, Tls,
};
