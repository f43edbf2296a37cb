//! The chain that the audit log is: what a row's hash is over, and how a reader checks row after row.
//!
//! A row's hash is SHA-256 over its number (8 octets, big-endian), its moment in milliseconds since 1970
//! (8 octets, two's complement, big-endian), then actor, action, object, outcome and detail, each as its length in
//! octets (8 octets, big-endian) and its UTF-8, then the 32 octets of the hash before. Before the first row that is
//! 32 zeros. `docs/audit.md` says the same for whoever writes a reader of their own.

use aws_lc_rs::digest::{Context, SHA256};
use model::Timestamp;

use crate::AuditRow;

/// A reader's place in the log: feed it every row in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    rows: u64,
    head: String,
}

/// The first row that does not follow from the one before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditBreak {
    /// A row is not there, or is there twice.
    #[error("row {expected} is missing: row {found} follows row {}", expected - 1)]
    Missing {
        /// The number that comes next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// It does not name the hash of the row before: that one was replaced, or this one belongs elsewhere.
    #[error("row {0} does not follow from row {before}: one of the two was replaced", before = .0 - 1)]
    Previous(u64),
    /// Its hash is not that of what it says.
    #[error("row {0} was changed after it was written")]
    Content(u64),
}

impl AuditBreak {
    /// The row at which the log breaks.
    pub fn row(&self) -> u64 {
        match self {
            Self::Missing { expected, .. } => *expected,
            Self::Previous(row) | Self::Content(row) => *row,
        }
    }
}

impl Default for AuditChain {
    fn default() -> Self {
        Self { rows: 0, head: model::hex(&BEFORE_THE_FIRST) }
    }
}

impl AuditChain {
    /// Takes the next row.
    ///
    /// # Errors
    /// If it does not follow from the one before; the chain stays where it is.
    pub fn follow(&mut self, row: &AuditRow) -> Result<(), AuditBreak> {
        let expected = self.rows + 1;
        if row.seq != expected {
            return Err(AuditBreak::Missing { expected, found: row.seq });
        }
        if row.prev_hash != self.head {
            return Err(AuditBreak::Previous(row.seq));
        }
        let parts = [&*row.actor, &row.action, &row.object, &row.outcome, &row.detail];
        let before = model::unhex(&row.prev_hash).unwrap_or_default();
        if row.hash != model::hex(&hash(row.seq, row.at, parts, &before)) {
            return Err(AuditBreak::Content(row.seq));
        }
        (self.rows, self.head) = (row.seq, row.hash.clone());
        Ok(())
    }

    /// How many rows followed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The hash of the newest; kept elsewhere, it shows later that no row up to it was taken away.
    pub fn head(&self) -> &str {
        &self.head
    }
}

/// Every part is preceded by its length, so that no two rows have the same octets.
pub(crate) fn hash(seq: u64, at: Timestamp, parts: [&str; 5], before: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&seq.to_be_bytes());
    context.update(&at.0.to_be_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(before);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// What stands where the first row names the hash before.
pub(crate) const BEFORE_THE_FIRST: [u8; 32] = [0; 32];
