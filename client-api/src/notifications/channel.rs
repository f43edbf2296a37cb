//! The seam to whatever carries a notification to somebody.

use std::{pin::Pin, time::Duration};

use model::Timestamp;
use store::{DueDelivery, Endpoint};

/// Carries messages of one kind. It is asked again for what failed; it keeps nothing itself.
pub(crate) trait Channel: Send + Sync + 'static {
    /// Tries once, ten seconds at most.
    fn deliver<'a>(
        &'a self,
        delivery: &'a DueDelivery,
        endpoint: &'a Endpoint,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Delivered(u16),
    /// Not now. `asked` is how long the receiver wants to be left alone.
    Failed { status: Option<u16>, reason: String, asked: Option<Duration> },
    /// The receiver will never take this message.
    Refused { status: Option<u16>, reason: String },
    /// The receiver is no more, and wants no other message either.
    Gone { status: u16, reason: String },
}

impl Outcome {
    pub(crate) fn failed(status: Option<u16>, reason: impl Into<String>) -> Self {
        Self::Failed { status, reason: reason.into(), asked: None }
    }
}
