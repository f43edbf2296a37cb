//! The words of the house: what things are called, and the rules that need nothing but values.
//!
//! No I/O, no async, no clock, no randomness: time and random bytes come in as arguments.
//!
//! - people and machines: [`TenantName`], [`DeviceId`], [`DeviceRef`], [`UserId`], [`ServiceName`], [`Target`],
//!   [`DeviceName`], [`Tag`]
//! - who may do what: [`Level`], [`ServiceSet`], [`Grant`], [`Actor`] and its proofs
//! - secrets with a short life: [`Passcode`], [`ClaimCode`], [`Ticket`], [`Secret`]
//! - certificates: [`Fingerprint`], [`Serial`], [`CertificateStatus`]
//! - what is live: [`SessionId`], [`Generation`], [`NodeId`], [`RequestId`]
//! - what happened: [`Event`]; what devices report: [`Telemetry`], [`Notification`], [`ReportId`], [`Moment`]
//! - a no that may be said aloud: [`Refusal`]

mod actor;
mod certificate;
mod claim_code;
mod event;
mod grant;
mod id;
mod label;
mod moment;
mod name;
mod passcode;
mod refusal;
mod report;
mod secret;
mod subscriber;
mod target;
mod ticket;
mod timestamp;

pub use actor::{Actor, AdminActor, DeviceActor, DoorKey, UserActor};
pub use certificate::{CertificateStatus, Fingerprint, RevocationReason, Serial};
pub use claim_code::{ClaimCode, ClaimCodeError, ClaimDigest};
pub use event::{DisconnectCause, EVENT_TYPES, Event};
pub use grant::{Grant, Level, MethodClass, ServiceSet};
pub use id::{DeliveryId, Generation, NodeId, PushRegistrationId, RequestId, SessionId, UserId, WebhookId};
pub use label::{DeviceName, DeviceNameError};
pub use moment::{Moment, MomentError};
pub use name::{DeviceId, NameError, ServiceName, Tag, TenantName};
pub use passcode::{Passcode, PasscodeDigest, PasscodeError};
pub use refusal::{Code, Refusal};
pub use report::{
    LARGEST_ITEM, LARGEST_REPORT, Line, MOST_REPORTED, Notification, NotificationType, Prose, ReportId,
    ReportIdError, ReportKind, Severity, Telemetry,
};
pub use secret::Secret;
pub use subscriber::SubscriberActor;
pub use target::{DeviceRef, Target, host_label, read_host_label};
pub use ticket::{Ticket, TicketDigest, TicketError, TicketPurpose, TicketRecord};
pub use timestamp::{DurationError, Timestamp, parse_duration};

/// Lower-case hex of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Bytes of lower- or upper-case hex; `None` for an odd length or another character.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        })
        .collect()
}
