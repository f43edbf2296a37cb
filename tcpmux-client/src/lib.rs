//! The device daemon: gets its certificate with a passcode, renews it, keeps one tunnel to the cloud and
//! serves local services through it.
//!
//! Who it is stands in [`Identity`], on disk in a [`StateDirectory`]. [`enroll()`] makes the first one,
//! [`Daemon::start`] does everything else until it is stopped. The binary adds a command line around it.
//!
//! It links no database, believes no server but the one of the pinned CA, and exposes no address that the
//! owner of the device did not write down.

mod address;
mod agent;
mod calendar;
mod certificate;
mod claim;
pub mod config;
mod connect;
mod daemon;
mod der;
mod dial;
pub mod doctor;
mod enroll;
mod enrolment_string;
mod est;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod heap;
mod housekeeping;
mod https;
mod identity;
mod intake;
mod key;
mod local;
mod local_api;
mod pem;
mod pkcs7;
mod proxy;
mod renew;
mod report;
mod reset;
mod serve;
mod services;
mod session;
mod splice;
mod spool;
mod state;
mod status;
pub mod systemd;
mod target;
mod trust;
mod trusted_time;
mod uplink;
mod way_out;

#[cfg(test)]
mod claim_tests;
#[cfg(test)]
mod daemon_tests;
#[cfg(test)]
mod enrolment_tests;
#[cfg(test)]
mod fake_cloud;
#[cfg(test)]
mod reset_tests;
#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod uplink_tests;

pub use address::{ServerAddress, ServerAddressError};
pub use certificate::{CertificateFacts, UnreadableCertificate};
pub use claim::{ClaimFile, ClaimFileError};
pub use daemon::{Daemon, DaemonConfig, ProvidedIdentity};
pub use dial::DialError;
pub use enroll::{EnrollError, EnrollRequest, enroll};
pub use enrolment_string::{EnrolmentString, EnrolmentStringError, parse_ca};
pub use est::EstError;
pub use https::HttpsError;
pub use identity::Identity;
pub use proxy::{Proxies, ProxyError};
pub use renew::renewal_time;
pub use reset::{ResetError, reset};
pub use services::{Service, ServiceError, ServiceSpec, Services};
pub use spool::SpoolStatus;
pub use state::{StateDirectory, StateError};
pub use status::{CertificateStatus, ServiceStatus, SessionStatus, Status};
pub use target::LocalTarget;
pub use trusted_time::{TrustedTime, build_time};
pub use way_out::WayOut;
