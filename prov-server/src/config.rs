//! What the operator can choose.

use std::time::Duration;

use runtime::FaultPoints;

use crate::{Allowance, Step};

/// How provisioning behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// `HOST:PORT` of the device door, as enrolment strings name it.
    pub device_url: String,
    /// How long a device's certificate lives.
    pub device_certificate: Duration,
    /// For how long after its end a certificate can still be renewed by proof of its key.
    pub renew_after_expiry: Duration,
    /// How long a door's certificate lives.
    pub door_certificate: Duration,
    /// Plain http address under which the published lists can be fetched, as in
    /// `http://crl.example.com/crl`; device certificates name `<it>/devices.crl`.
    pub crl_url: Option<String>,
    /// This writer's number, 1–127: the first octet of its serials.
    pub writer: u8,
    /// How much failure is allowed.
    pub limits: Limits,
    /// Where a test makes the process die.
    pub fault_points: FaultPoints<Step>,
}

/// How often something may go wrong before the answer is 429. Successes never count.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Failed proofs of a source (an IPv4 address or an IPv6 /64).
    pub failures_of_source: Allowance,
    /// Refused requests that came with a valid passcode, by passcode.
    pub refusals_of_passcode: Allowance,
    /// Refused renewals, by certificate.
    pub refusals_of_certificate: Allowance,
    /// Failures of everybody that get an audit row of their own.
    pub audited_failures: Allowance,
    /// Successors that a device gets within [`Self::renewals_per`].
    pub renewals: u32,
    /// The time in which they are counted.
    pub renewals_per: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device_url: "localhost:7443".into(),
            device_certificate: DAY * 90,
            renew_after_expiry: DAY * 400,
            door_certificate: DAY * 90,
            crl_url: None,
            writer: 1,
            limits: Limits::default(),
            fault_points: FaultPoints::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            failures_of_source: Allowance { burst: 300, refill: Duration::from_secs(2) },
            refusals_of_passcode: Allowance { burst: 5, refill: Duration::from_secs(60) },
            refusals_of_certificate: Allowance { burst: 20, refill: Duration::from_secs(60) },
            audited_failures: Allowance { burst: 2000, refill: Duration::from_secs(1) },
            renewals: 10,
            renewals_per: Duration::from_secs(3600),
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
