//! How a device gets its certificate, keeps it, and loses it.
//!
//! - a passcode is made and shown once: `passcodes`
//! - a device redeems it over EST: `est` (bytes), `enrolling` and `renewing` (the stories)
//! - a certificate is made: `issuing`, the only file that reaches a CA key
//! - it is taken back, and the world is told: `revoking`, `publishing`
//!
//! This room knows neither users nor tunnels, and never sees a device's private key. Start with
//! [`Provisioning`].

mod alarms;
mod base64_body;
mod certificates;
mod config;
mod doors;
mod enrolling;
mod est;
mod fault;
mod filling;
mod finishing;
mod first_use;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod issuing;
mod limits;
mod passcodes;
mod provisioning;
mod publishing;
mod recovering;
mod refusing;
mod renewing;
mod revoking;
mod routes;

pub use config::{Config, Limits};
pub use doors::{DoorCertificate, DoorError};
pub use fault::{Step, UnknownStep};
pub use limits::Allowance;
pub use provisioning::{Provisioning, StartError};
pub use revoking::{RevocationReceipt, RevokeError};
