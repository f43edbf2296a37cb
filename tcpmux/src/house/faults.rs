//! Where a test makes the process die: `TCPMUX_FAULT_POINT`, heeded by debug builds alone.

use client_api::IntakeStep;
use prov_server::Step;
use runtime::FaultPoints;

use super::misconfigured;
use crate::exit::Failure;

/// The fault points of the rooms that have some.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) issuing: FaultPoints<Step>,
    pub(super) intake: FaultPoints<IntakeStep>,
}

impl Faults {
    /// What the environment asks for.
    ///
    /// # Errors
    /// If no room has a step of that name.
    pub(super) fn of_environment() -> Result<Self, Failure> {
        match std::env::var("TCPMUX_FAULT_POINT") {
            Ok(step) if cfg!(debug_assertions) => Self::after(&step),
            _ => Ok(Self::default()),
        }
    }

    fn after(step: &str) -> Result<Self, Failure> {
        if let Some(step) = IntakeStep::named(step) {
            return Ok(Self { intake: FaultPoints::abort_after(step), ..Self::default() });
        }
        let issuing = step.parse().map_err(|unknown| {
            misconfigured(anyhow::anyhow!("{unknown}; and of a report: {}", IntakeStep::NAMES.join(", ")))
        })?;
        let issuing = FaultPoints::abort_after(issuing);
        Ok(Self { issuing, ..Self::default() })
    }
}
