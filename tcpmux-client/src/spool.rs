//! What waits for the cloud: a bounded queue on disk that outlives crashes, restarts and outages.
//!
//! ```text
//! STATE/spool/                     0700
//!   00000000000000000001.spool     records, oldest first; a file is removed when the cloud has all of it
//!   acknowledged                   the sequence that the cloud has everything up to
//! ```
//!
//! - An item that was taken in is flushed to disk; only then is the program that brought it answered.
//! - Items leave in the order in which they came, each when the cloud has said what became of it.
//! - When the queue is full, new items are refused: what was promised is kept, and the program learns of it.
//! - A damaged record costs itself alone. Whether an item was sent before is for the cloud to see by its id.
//!
//! Everything here blocks; [`SpoolKeeper`] is the way in for async code.

mod cursor;
mod disk;
mod keeper;
mod record;
mod segment;

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use model::{ReportKind, Timestamp};

pub(crate) use keeper::SpoolKeeper;
pub use keeper::SpoolStatus;
pub(crate) use record::Record;

use segment::{Pen, Segment};

/// Whole records among these bytes, and where each ends.
#[cfg(feature = "fuzzing")]
pub(crate) fn found_for_fuzzing(bytes: &[u8]) -> impl Iterator<Item = (Record, usize)> {
    record::records(bytes).map(|found| (found.record, found.end))
}

/// An item that was not taken in yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRecord {
    pub(crate) kind: ReportKind,
    pub(crate) json: Vec<u8>,
}

/// Why items were not taken in.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The queue has its full length.
    #[error("{0} bytes wait for the cloud already, which is the limit")]
    Full(u64),
    /// The disk has no room.
    #[error("the disk is full")]
    DiskFull,
    /// The disk fails.
    #[error("the disk does not take it: {0}")]
    Disk(String),
}

/// How much a batch may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
    most_bytes: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Writes to the newest segment; none until something comes in.
    pen: Option<Pen>,
    next: u64,
    acknowledged: u64,
    oldest: Option<Timestamp>,
}

impl Spool {
    /// Opens the queue in this directory, or makes one. Whole records of earlier runs are in it.
    pub(crate) fn open(directory: &Path, most_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        let acknowledged = cursor::read(directory);
        let (segments, damaged) = Segment::found_in(directory, acknowledged)?;
        if damaged > 0 {
            tracing::warn!(bytes = damaged, "a part of what waited for the cloud was cut off or damaged");
        }
        let newest = segments.iter().map(|segment| segment.last).max().unwrap_or(0);
        let mut spool = Self {
            directory: directory.to_owned(),
            most_bytes,
            segments: segments.into(),
            pen: None,
            next: newest.max(acknowledged) + 1,
            acknowledged,
            oldest: None,
        };
        spool.remove_finished()?;
        spool.oldest = spool.peek(BatchLimits { items: 1, bytes: 1 })?.first().map(|record| record.at);
        Ok(spool)
    }

    /// Takes in several groups with one flush; each group whole or not at all.
    pub(crate) fn append(
        &mut self,
        groups: Vec<Vec<NewRecord>>,
        at: Timestamp,
    ) -> Vec<Result<(), SpoolError>> {
        let mut encoded = vec![];
        let (first, mut count) = (self.next, 0);
        let mut outcomes: Vec<Result<(), SpoolError>> = groups
            .into_iter()
            .map(|group| {
                let size: u64 = group.iter().map(|new| Record::size(new.json.len())).sum();
                if self.bytes() + encoded.len() as u64 + size > self.most_bytes {
                    return Err(SpoolError::Full(self.most_bytes));
                }
                for NewRecord { kind, json } in group {
                    Record { sequence: self.next, at, kind, json }.write(&mut encoded);
                    self.next += 1;
                    count += 1;
                }
                Ok(())
            })
            .collect();
        if count == 0 {
            return outcomes;
        }
        match self.write(&encoded, first, count) {
            Ok(()) => self.oldest = self.oldest.or(Some(at)),
            Err(error) => {
                let error = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::DiskFull,
                    _ => SpoolError::Disk(error.to_string()),
                };
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                    *outcome = Err(error.clone());
                }
            }
        }
        outcomes
    }

    /// The oldest items that the cloud does not have, all of one kind; at least one if there is any.
    pub(crate) fn peek(&mut self, limits: BatchLimits) -> io::Result<Vec<Record>> {
        while let Some(segment) = self.segments.front_mut() {
            let (mut items, mut bytes, mut kind) = (0, 0, None);
            let batch = segment.read(self.acknowledged, |record| {
                items += 1;
                bytes += record.json.len() + 1;
                let fits = items == 1 || (items <= limits.items && bytes <= limits.bytes);
                fits && *kind.get_or_insert(record.kind) == record.kind
            })?;
            if let Some(first) = batch.first() {
                self.oldest = Some(first.at);
                return Ok(batch);
            }
            if segment.left > 0 {
                tracing::error!(items = segment.left, "items that waited for the cloud were damaged on disk");
            } else if self.pen.is_some() && self.segments.len() == 1 {
                break;
            }
            self.remove_oldest()?;
        }
        self.oldest = None;
        Ok(vec![])
    }

    /// The cloud has said what became of these, which were the oldest.
    pub(crate) fn acknowledge(&mut self, batch: &[Record]) -> io::Result<()> {
        let Some(last) = batch.last() else { return Ok(()) };
        self.acknowledged = self.acknowledged.max(last.sequence);
        if let Some(segment) = self.segments.front_mut() {
            segment.left = segment.left.saturating_sub(batch.len() as u64);
        }
        disk::crash_point();
        // Without room for the cursor, room is made all the more.
        let noted = cursor::write(&self.directory, self.acknowledged);
        disk::crash_point();
        self.remove_finished().and(noted)
    }

    /// How many items wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.segments.iter().map(|segment| segment.left).sum()
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// When the oldest item that waits was taken in.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.oldest.filter(|_| self.waiting() > 0)
    }

    fn write(&mut self, encoded: &[u8], first: u64, count: u64) -> io::Result<()> {
        if self.segments.back().is_some_and(|segment| segment.bytes >= SEGMENT_BYTES) {
            self.pen = None;
        }
        if self.pen.is_none() {
            let (segment, pen) = Segment::create(&self.directory, first)?;
            self.segments.push_back(segment);
            self.pen = Some(pen);
        }
        let (Some(segment), Some(pen)) = (self.segments.back_mut(), &mut self.pen) else {
            return Err(io::Error::other("there is no file to write to"));
        };
        let written = segment.write(pen, encoded, first + count - 1, count);
        if written.is_err() && !segment.take_back(pen) {
            // What was written in part is passed over when it is read; the next item begins a file.
            self.pen = None;
        }
        written
    }

    /// Removes the oldest files as far as the cloud has all of them.
    fn remove_finished(&mut self) -> io::Result<()> {
        while let Some(segment) = self.segments.front() {
            let is_written_to = self.pen.is_some() && self.segments.len() == 1;
            let is_worth_keeping = is_written_to && segment.bytes < SEGMENT_WORTH_KEEPING;
            if segment.last > self.acknowledged || is_worth_keeping {
                break;
            }
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.pop_front() else { return Ok(()) };
        if self.segments.is_empty() {
            self.pen = None;
        }
        segment.remove()
    }
}

/// A file is closed when it has this length.
const SEGMENT_BYTES: u64 = 512 * 1024;
/// A file that is written to is not removed before it has this length: a device that reports now and then does not
/// make a file each time.
const SEGMENT_WORTH_KEEPING: u64 = 64 * 1024;

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
