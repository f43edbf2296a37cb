//! One file of the queue. Only the newest is written to; the oldest is read from and removed when the cloud has
//! all of it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    disk,
    record::{Found, Record, records},
};

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    /// The newest sequence in it.
    pub(super) last: u64,
    /// Its length on disk.
    pub(super) bytes: u64,
    /// Records that the cloud does not have yet.
    pub(super) left: u64,
    /// Everything before this was acknowledged.
    offset: usize,
}

/// The end of the newest segment.
#[derive(Debug)]
pub(super) struct Pen(File);

impl Segment {
    /// Makes a file whose records begin with this sequence.
    pub(super) fn create(directory: &Path, first: u64) -> io::Result<(Self, Pen)> {
        let path = directory.join(format!("{first:020}{SUFFIX}"));
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
        disk::crash_point();
        File::open(directory)?.sync_all()?;
        Ok((Self { path, last: 0, bytes: 0, left: 0, offset: 0 }, Pen(file)))
    }

    /// The files of an earlier run, oldest first, and how many bytes of them are no records.
    pub(super) fn found_in(directory: &Path, acknowledged: u64) -> io::Result<(Vec<Self>, u64)> {
        let mut paths = vec![];
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.strip_suffix(SUFFIX).is_some_and(|number| number.len() == 20) {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut segments, mut damaged) = (vec![], 0);
        for path in paths {
            let content = fs::read(&path)?;
            let (mut last, mut left, mut good) = (0, 0, 0);
            for Found { record, .. } in records(&content) {
                last = last.max(record.sequence);
                left += u64::from(record.sequence > acknowledged);
                good += Record::size(record.json.len());
            }
            let bytes = content.len() as u64;
            damaged += bytes - good;
            if last == 0 {
                // Its name must be free for the next file.
                fs::remove_file(&path)?;
                continue;
            }
            segments.push(Self { path, last, bytes, left, offset: 0 });
        }
        Ok((segments, damaged))
    }

    /// Records after the acknowledged ones, oldest first, while `wanted` says so.
    pub(super) fn read(
        &mut self,
        acknowledged: u64,
        mut wanted: impl FnMut(&Record) -> bool,
    ) -> io::Result<Vec<Record>> {
        let content = fs::read(&self.path)?;
        let begin = self.offset.min(content.len());
        let mut batch = vec![];
        for Found { record, end } in records(&content[begin..]) {
            if record.sequence <= acknowledged {
                self.offset = begin + end;
            } else if wanted(&record) {
                batch.push(record);
            } else {
                break;
            }
        }
        Ok(batch)
    }

    /// Adds what was encoded to the file and flushes it. After an error nothing of it counts.
    pub(super) fn write(&mut self, pen: &mut Pen, encoded: &[u8], last: u64, count: u64) -> io::Result<()> {
        let written = disk::write(&mut pen.0, encoded).and_then(|()| disk::flush(&pen.0));
        if written.is_ok() {
            self.bytes += encoded.len() as u64;
            self.last = last;
            self.left += count;
        }
        written
    }

    /// Takes back what a failed write left. False if the file cannot be written to any more.
    pub(super) fn take_back(&mut self, pen: &Pen) -> bool {
        pen.0.set_len(self.bytes).is_ok()
    }

    pub(super) fn remove(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

const SUFFIX: &str = ".spool";
