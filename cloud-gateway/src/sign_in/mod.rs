//! People signing in with a browser: the authorization code flow with PKCE, and handing a login over to a
//! device's own host.
//!
//! - `routes`: which address is what
//! - `flow`: to the provider and back; `pending` keeps what must match on the way back
//! - `handover`: from the cloud's origin to a device's host, by a one-time code
//! - `pages`, `cookies`, `key`, `same_origin`: what browsers see, carry, and must prove

pub(crate) mod cookies;
mod flow;
mod handover;
mod key;
mod pages;
mod pending;
mod routes;
mod same_origin;

pub use handover::Welcome;

pub(crate) use cookies::{LOGIN as LOGIN_COOKIE, read as read_cookie};
pub(crate) use handover::Handovers;
pub(crate) use key::BrowserKey;
pub(crate) use routes::SignIn;
pub(crate) use same_origin::require as require_same_origin;
