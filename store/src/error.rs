//! Why an answer is not to be had.

use std::{path::PathBuf, sync::Arc};

use model::{Code, Refusal};

/// Why the store could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The row that the act is about does not exist.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The act contradicts a row that exists.
    #[error("{what}")]
    Conflict {
        /// What stands in the way, as a sentence.
        what: &'static str,
    },
    /// The database did not do its part; nothing of the act was kept.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The disk, or the space given to the database, is full.
    #[error("the database has no space left; free some, nothing is lost")]
    Full,
    /// Too many writes are waiting.
    #[error("too many writes are waiting for the database")]
    Overloaded,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A row holds a value that this program does not understand.
    #[error("unreadable {what} in the database: {detail}")]
    Corrupt {
        /// Which column.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl StoreError {
    /// Whether a repeat may succeed without anybody's doing: the caller answers 503.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full | Self::Overloaded | Self::Closed)
    }

    /// What a caller may be told. What is the database's own matter is told to the log alone, with what was being done.
    pub fn refusal(&self, doing: &str) -> Refusal {
        match self {
            Self::NotFound(what) => Refusal::new(Code::NotFound, format!("there is no such {what}")),
            Self::Conflict { what } => Refusal::new(Code::Conflict, *what),
            passing if passing.is_passing() => {
                tracing::warn!(doing, error = %self, "the store does not answer");
                Refusal::new(Code::Unavailable, "this is not possible just now; try again").retry_after(5)
            }
            _ => {
                tracing::error!(doing, error = %self, "internal fault");
                Refusal::new(Code::Internal, "something here is broken; the server's log says what")
            }
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // https://sqlite.org/rescode.html#full; extended codes keep the primary one in the low byte.
        let code = error.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<u32>().ok());
        if code.is_some_and(|code| code & 255 == SQLITE_FULL) {
            return Self::Full;
        }
        Self::Unavailable(Arc::new(error))
    }
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be made or has a mode that others can read.
    #[error("cannot prepare the database file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A newer program has been here.
    #[error(
        "the database has schema {found}, this program knows schemas up to {known}: run the newer program, or restore the copy made before the upgrade"
    )]
    NewerSchema {
        /// The file's schema.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The file is some other program's database.
    #[error("{path} is a database of another program")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The database refused.
    #[error("cannot open the database: {0}")]
    Database(#[from] sqlx::Error),
}

const SQLITE_FULL: u32 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_told_what_it_can_act_on_and_nothing_of_the_database() {
        let locked = StoreError::Unavailable(Arc::new(sqlx::Error::PoolTimedOut));
        let corrupt = StoreError::Corrupt { what: "certificates.status", detail: "canary".into() };
        for (error, status, told) in [
            (StoreError::NotFound("tenant"), 404, "there is no such tenant"),
            (StoreError::Conflict { what: "the default tenant stays" }, 409, "the default tenant stays"),
            (locked, 503, "try again"),
            (StoreError::Full, 503, "try again"),
            (corrupt, 500, "the server's log"),
        ] {
            let refusal = error.refusal("testing");
            assert_eq!(refusal.http_status(), status, "{error}");
            assert!(
                refusal.detail.contains(told) && !refusal.detail.contains("canary"),
                "{}",
                refusal.detail
            );
            assert_eq!(refusal.retry_after.is_some(), error.is_passing(), "{error}");
        }
    }
}
