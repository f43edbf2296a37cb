//! The single-use key to one WebSocket.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{DeviceId, Level, Secret, ServiceName, ServiceSet, TenantName, Timestamp, UserId};

const SECRET_BYTES: usize = 32;

/// A ticket in clear: 256 random bits, written as 64 lower-case hex digits.
///
/// It travels in a URL, where no other credential of ours may be: it opens one WebSocket, once, within a minute.
#[derive(Clone)]
pub struct Ticket(Secret<[u8; SECRET_BYTES]>);

/// What is kept of a ticket: SHA-256 over its 32 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketDigest(pub [u8; 32]);

/// What a ticket opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketPurpose {
    /// A topic of events.
    Topics,
    /// A service of one device; a topic as well, as far as it tells of that device.
    Service,
}

/// For whom a ticket was made and how far it reaches; what the one who takes it may go by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRecord {
    /// In which tenant.
    pub tenant: TenantName,
    /// Who asked for it.
    pub user: UserId,
    /// The only device that it reaches; `None`: every device of the user's.
    pub device: Option<DeviceId>,
    /// The only devices that it reaches, where the token that it was made with was limited to some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<DeviceId>>,
    /// The only service of that device that it opens.
    pub service: Option<ServiceName>,
    /// The user's level on that device when it was made.
    pub level: Option<Level>,
    /// The services that were granted with that level.
    pub services: ServiceSet,
    /// The tenant's grant sequence when it was made; a later change of this user's rights makes it stale.
    pub grant_sequence: u64,
    /// When whatever it opened has to end.
    pub until: Timestamp,
    /// When it opens nothing any more.
    pub expires_at: Timestamp,
    /// What it is for.
    pub purpose: TicketPurpose,
}

/// Why a text is not a ticket. Says nothing of whether one like it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ticket has 64 hex digits")]
pub struct TicketError;

impl Ticket {
    /// Makes a ticket of 32 random bytes.
    pub fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The 32 octets that the digest is taken over.
    pub fn secret_bytes(&self) -> &[u8] {
        self.0.expose()
    }

    /// The text to hand out. A secret.
    pub fn reveal(&self) -> String {
        crate::hex(self.0.expose())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl FromStr for Ticket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() != SECRET_BYTES * 2 {
            return Err(TicketError);
        }
        let mut bytes = crate::unhex(text).ok_or(TicketError)?;
        let ticket = <[u8; SECRET_BYTES]>::try_from(bytes.as_slice()).map(Self::from_random);
        bytes.zeroize();
        ticket.map_err(|_| TicketError)
    }
}

impl fmt::Display for TicketDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex(&self.0))
    }
}

impl fmt::Debug for TicketDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_survives_its_text_and_is_not_printed() {
        let ticket = Ticket::from_random([0xa7; 32]);
        let text = ticket.reveal();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse::<Ticket>().unwrap().secret_bytes(), ticket.secret_bytes());
        assert!(!format!("{ticket:?}").contains("a7"));
    }

    #[test]
    fn other_texts_are_refused() {
        let (short, long) = ("a".repeat(63), "a".repeat(65));
        let (odd, wide) = (format!("{}g", "a".repeat(63)), "ä".repeat(32));
        for bad in ["", short.as_str(), long.as_str(), odd.as_str(), wide.as_str()] {
            assert_eq!(bad.parse::<Ticket>().unwrap_err(), TicketError, "{bad}");
        }
    }

    #[test]
    fn a_record_survives_its_json() {
        let record = TicketRecord {
            tenant: TenantName::default(),
            user: UserId::from_random([1; 16]),
            device: Some("cam-01".parse().unwrap()),
            only: None,
            service: Some("web".parse().unwrap()),
            level: Some(Level::Operator),
            services: ServiceSet::only(["web".parse().unwrap()]),
            grant_sequence: 7,
            until: Timestamp(2),
            expires_at: Timestamp(1),
            purpose: TicketPurpose::Service,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<TicketRecord>(&text).unwrap(), record);
    }
}
