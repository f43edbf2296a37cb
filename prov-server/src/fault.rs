//! Places between the steps of an issuance where a test makes the process die.

use std::str::FromStr;

/// A step of an issuance that has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The request was read and allowed.
    Parsed,
    /// The bytes to be signed were written and linted.
    Prepared,
    /// Intent and redemption are durable.
    Intended,
    /// A signature exists, in memory alone.
    Signed,
    /// The certificate is durable.
    Recorded,
    /// The doors know the certificate; nobody was answered.
    Admitted,
    /// A signature for one of our own doors exists, in memory alone. Every start comes by here.
    DoorSigned,
}

/// No step has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a fault point; one of after-parsed, -prepared, -intended, -signed, -recorded, -admitted, -door-signed"
)]
pub struct UnknownStep(String);

impl Step {
    /// Every step of a device's certificate, in order.
    pub const ALL: [Self; 6] =
        [Self::Parsed, Self::Prepared, Self::Intended, Self::Signed, Self::Recorded, Self::Admitted];

    fn name(self) -> &'static str {
        match self {
            Self::Parsed => "after-parsed",
            Self::Prepared => "after-prepared",
            Self::Intended => "after-intended",
            Self::Signed => "after-signed",
            Self::Recorded => "after-recorded",
            Self::Admitted => "after-admitted",
            Self::DoorSigned => "after-door-signed",
        }
    }
}

impl FromStr for Step {
    type Err = UnknownStep;
    fn from_str(text: &str) -> Result<Self, UnknownStep> {
        let mut all = Self::ALL.into_iter().chain([Self::DoorSigned]);
        all.find(|step| step.name() == text).ok_or_else(|| UnknownStep(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_name_that_reads_back() {
        for step in Step::ALL.into_iter().chain([Step::DoorSigned]) {
            assert_eq!(step.name().parse(), Ok(step));
        }
        assert!("after-lunch".parse::<Step>().unwrap_err().to_string().contains("-signed"));
    }
}
