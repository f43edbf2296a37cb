//! What the registry cannot do for a caller who waits for it.

use model::{Code, Refusal};

/// Why a ticket was neither kept nor given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The user holds too many unused tickets.
    #[error("this user holds {TICKETS_PER_USER} unused tickets already")]
    TooManyOfUser,
    /// Everybody together holds too many.
    #[error("{TICKETS_KEPT} unused tickets are kept already")]
    TooMany,
    /// A ticket with this digest is there: the random bytes were not random.
    #[error("a ticket with this digest is kept already")]
    Taken,
    /// The shared registry does not answer, or answers with an error.
    #[error("the shared registry cannot be used: {0}")]
    Unavailable(String),
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::TooManyOfUser => {
                let said = "too many unused tickets; use one of them, or wait a minute until they end";
                Self::new(Code::TooMany, said).retry_after(TICKET_SECONDS)
            }
            RegistryError::TooMany => {
                Self::new(Code::Unavailable, "too many tickets are waiting to be used; try again")
                    .retry_after(TICKET_SECONDS)
            }
            RegistryError::Taken | RegistryError::Unavailable(_) => {
                Self::new(Code::Unavailable, "tickets cannot be made or used just now; try again")
                    .retry_after(5)
            }
        }
    }
}

/// Unused tickets of one user.
pub const TICKETS_PER_USER: usize = 64;
/// Unused tickets of all users.
pub const TICKETS_KEPT: usize = 65_536;
/// How long a ticket usually lives, for those who are asked to wait.
const TICKET_SECONDS: u32 = 60;
