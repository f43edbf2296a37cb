//! What must last: every table and every SQL statement of the cloud lives here.
//!
//! The store decides nothing. It keeps facts, keeps them together (one act, one transaction, one
//! audit row), and answers races the same way however many callers arrive at once. Whoever calls
//! brings the time, and everything that belongs to a tenant is named with its tenant.
//!
//! Writes are committed in groups ([`Store`] says how). One file per noun; no SQL outside this crate.

mod audit;
mod audit_chain;
mod certificates;
mod claims;
mod column;
mod connections;
mod crls;
mod deleting;
mod deliveries;
mod devices;
mod editing;
mod error;
mod events;
mod forgetting;
mod grants;
mod inbox;
mod issuing;
mod logins;
mod meta;
mod migrations;
mod notification_settings;
mod open;
mod ownership;
mod passcodes;
mod push_registrations;
mod reach;
mod redeeming;
mod renewing;
mod revocations;
mod sharing;
mod sorting;
mod tenants;
mod transfers;
mod users;
mod visits;
mod watching;
mod webhooks;
mod writer;

pub use audit::{AuditEntry, AuditRow};
pub use audit_chain::{AuditBreak, AuditChain};
pub use certificates::{CertificateRow, DoorCertificate, IssuanceRow, IssuerName, Subject};
pub use claims::{Claim, ClaimCodeRow, ClaimState, Claimable};
pub use connections::{ConnectionFact, ConnectionRow};
pub use crls::CrlRow;
pub use deliveries::{Attempt, Attempted, DeliveryRow, DueDelivery, Endpoint};
pub use devices::{DeviceRow, RemovedDevice};
pub use editing::DeviceEdit;
pub use error::{OpenError, StoreError};
pub use events::{EventRow, NewEvent};
pub use forgetting::{EventsKept, ForgettingStep, Forgotten};
pub use grants::GrantChangeRow;
pub use inbox::{InboxQuery, InboxRow};
pub use issuing::Intent;
pub use logins::{BrowserDigest, LoginRow, NewLogin};
pub use open::Store;
pub use ownership::Released;
pub use passcodes::{NewPasscode, PasscodeRow};
pub use push_registrations::{Platform, PushRegistrationRow};
pub use reach::{Reachable, Sought};
pub use redeeming::{Redemption, RedemptionRefusal, RedemptionRequest};
pub use renewing::{FirstUse, Renewal, RenewalRefusal, RenewalRequest};
pub use revocations::{Revocation, RevokedRow};
pub use sorting::{NewDelivery, Recipient, Sorted, Stretch};
pub use tenants::TenantRow;
pub use transfers::{Offer, TransferRow, Transferred};
pub use users::UserRow;
pub use visits::{NewHandover, TakenHandover, VisitRow};
pub use watching::{HistoryQuery, WatchedDevice};
pub use webhooks::{WebhookRow, WebhookWish};
