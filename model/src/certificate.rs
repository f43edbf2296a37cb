//! How a certificate is named and what state it can be in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// SHA-256 of a certificate's DER. Written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = if text.bytes().any(|b| b.is_ascii_uppercase()) { None } else { crate::unhex(text) };
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| "a fingerprint is 64 lower-case hex digits".into())
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// A certificate's serial number: 18 octets, the first 0x01–0x7f, so never zero or negative
/// (RFC 5280 §4.1.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub [u8; 18]);

impl Serial {
    /// Makes a serial of one prefix octet (the writer's number, 1–127) and 17 random octets.
    pub fn from_random(writer: u8, random: [u8; 17]) -> Self {
        let mut octets = [0; 18];
        octets[0] = writer.clamp(1, 127);
        octets[1..].copy_from_slice(&random);
        Self(octets)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let octets = crate::unhex(text).and_then(|octets| <[u8; 18]>::try_from(octets).ok());
        octets.map(Self).ok_or_else(|| "a serial is 36 hex digits".into())
    }
}

/// What a certificate in the registry may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateStatus {
    /// Intended: the row is durable, the signature not yet recorded. Opens no door.
    Pending,
    /// Issued and usable.
    Active,
    /// Its successor was used; usable no more.
    Retired,
    /// Revoked; usable never again.
    Revoked,
}

impl CertificateStatus {
    /// The word used in rows and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }
}

impl FromStr for CertificateStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pending" => Ok(Self::Pending),
            "active" => Ok(Self::Active),
            "retired" => Ok(Self::Retired),
            "revoked" => Ok(Self::Revoked),
            other => Err(format!("unknown certificate status `{other}`")),
        }
    }
}

/// Why a certificate was revoked (RFC 5280 §5.3.1, the reasons that a device can have).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevocationReason {
    /// No reason given.
    #[default]
    Unspecified,
    /// The device's key is or may be known to others.
    KeyCompromise,
    /// The device changed hands.
    AffiliationChanged,
    /// Replaced by another certificate.
    Superseded,
    /// The device is out of service.
    CessationOfOperation,
}

impl RevocationReason {
    /// The CRLReason number.
    pub fn number(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
        }
    }

    /// The reason of a CRLReason number; anything unknown is [`Self::Unspecified`].
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::KeyCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            _ => Self::Unspecified,
        }
    }
}
