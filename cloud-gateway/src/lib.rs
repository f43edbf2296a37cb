//! Who is calling: the layers that turn a request into a proven actor, and the proxy tokens minted for people.
//!
//! Nothing here knows what a device is for or decides what an actor may see: that is the rooms' own.
//! No credential passes this room: it is removed before a handler sees the request.
//!
//! Read [`Gateway`] first, then [`Guards::mount`] (which proof each caller must bring).
//! - people: [`ProviderConfig`] → sign-in providers → `UserActor`; with a browser, by way of a login
//! - operators: the admin key → `AdminActor`
//! - devices: [`DeviceGuard`] and the registry's admission → `DeviceActor`; [`device_verifier`] in the handshake;
//!   device tokens, minted for sessions and brought by the [`TokenDelivery`]
//! - subscribers to events: any of a provider's token, a proxy token, a ticket → `SubscriberActor`; tickets are issued here
//! - proxy tokens: the authorizer, whose key file only this room reads
//! - what the cloud shows to others: [`WebhookSecrets`] signs, [`PushAccount`] gets access tokens

mod admin_key;
mod attempts;
mod authorizer;
mod device_identity;
mod device_tokens;
mod device_verifier;
mod doors;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod key_file;
mod logins;
mod oidc;
mod openapi;
mod push_account;
mod pushing;
mod schedule;
mod sign_in;
mod subscribers;
mod ticket_routes;
mod token_routes;
mod users;
mod webhook_secrets;
mod well_known;

#[cfg(test)]
mod subscriber_tests;
#[cfg(test)]
mod test_authority;
#[cfg(test)]
mod testing;

pub use admin_key::AdminKey;
pub use authorizer::AUDIENCE;
pub use device_identity::DeviceGuard;
pub use device_tokens::{DEVICE_AUDIENCE, DeviceToken};
pub use device_verifier::{ClientCertificate, VerifierError, device_verifier};
pub use doors::Guards;
pub use gateway::{Config, Gateway, StartError};
pub use key_file::KeyFileError;
pub use oidc::{Client, ProviderConfig, ProviderError, SignInConfig, TenantRule};
pub use openapi::openapi;
pub use push_account::{AccessTokenError, PushAccount, PushAccountError};
pub use pushing::TokenDelivery;
pub use sign_in::Welcome;
pub use webhook_secrets::{NewWebhookSecret, SealedError, WebhookKeyError, WebhookSecrets};
pub use well_known::Endpoints;
