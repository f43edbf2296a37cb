//! One record on disk, and finding whole records in what a crash or a bad disk left.
//!
//! ```text
//! F5 74 63 F8 | length of the rest, u32 | CRC-32C of length and rest, u32 | sequence, u64 | taken in at, i64 | kind, u8 | JSON
//! ```
//!
//! Numbers are little-endian. The first and last byte of the mark never occur in UTF-8, so that no content can
//! look like a record.

use model::{ReportKind, Timestamp};

/// One item as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its place among all.
    pub(crate) sequence: u64,
    /// When it was taken in.
    pub(crate) at: Timestamp,
    /// What it is.
    pub(crate) kind: ReportKind,
    /// The item as the cloud wants it: JSON.
    pub(crate) json: Vec<u8>,
}

/// A record and where it ends in what was read.
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) end: usize,
}

impl Record {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let begin = to.len();
        to.extend(MARK);
        let length = u32::try_from(REST + self.json.len()).expect("an item has at most 64 KiB");
        to.extend(length.to_le_bytes());
        to.extend([0; 4]);
        to.extend(self.sequence.to_le_bytes());
        to.extend(self.at.millis().to_le_bytes());
        to.push(match self.kind {
            ReportKind::Telemetry => TELEMETRY,
            ReportKind::Notification => NOTIFICATION,
        });
        to.extend(&self.json);
        let checksum = checksum(&to[begin..]);
        to[begin + 8..begin + HEAD].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Bytes on disk.
    pub(crate) fn size(json: usize) -> u64 {
        (HEAD + REST + json) as u64
    }
}

/// Whole records in this order; whatever lies between them is passed over.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Found> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes.get(at..)?.windows(MARK.len()).position(|window| window == MARK)?;
            match read(&bytes[at..]) {
                Some((record, length)) => {
                    at += length;
                    return Some(Found { record, end: at });
                }
                None => at += 1,
            }
        }
    })
}

/// The record that these bytes begin with, and its length.
fn read(bytes: &[u8]) -> Option<(Record, usize)> {
    let number = |from: usize| Some(u32::from_le_bytes(bytes.get(from..from + 4)?.try_into().ok()?));
    let long = |from: usize| Some(u64::from_le_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
    let rest = usize::try_from(number(4)?).ok()?;
    if !(REST..=REST + model::LARGEST_ITEM + SPARE).contains(&rest) {
        return None;
    }
    let whole = bytes.get(..HEAD + rest)?;
    if checksum(whole) != number(8)? {
        return None;
    }
    let kind = match whole[HEAD + 16] {
        TELEMETRY => ReportKind::Telemetry,
        NOTIFICATION => ReportKind::Notification,
        _ => return None,
    };
    let at = Timestamp(long(HEAD + 8)?.cast_signed());
    let record = Record { sequence: long(HEAD)?, at, kind, json: whole[HEAD + REST..].to_vec() };
    Some((record, whole.len()))
}

/// Of everything but the mark and the checksum itself.
fn checksum(whole: &[u8]) -> u32 {
    crc32c(whole[4..8].iter().chain(&whole[HEAD..]))
}

/// CRC-32C (Castagnoli): finds every change of up to 32 bits in a row, in records of our size.
pub(super) fn crc32c<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let step = |crc: u32, byte: &u8| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8);
    !bytes.into_iter().fold(u32::MAX, step)
}

const MARK: [u8; 4] = [0xf5, b't', b'c', 0xf8];
const HEAD: usize = 12;
const REST: usize = 17;
/// The daemon adds an id and a time to what programs send.
const SPARE: usize = 256;
const TELEMETRY: u8 = 1;
const NOTIFICATION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Record {
        let kind = if sequence.is_multiple_of(3) { ReportKind::Notification } else { ReportKind::Telemetry };
        let json = format!(r#"{{"data":{{"n":{sequence},"text":"{}"}}}}"#, "ü".repeat(sequence as usize));
        Record { sequence, at: Timestamp(-5 + sequence as i64), kind, json: json.into_bytes() }
    }

    fn written(count: u64) -> Vec<u8> {
        let mut bytes = vec![];
        (1..=count).for_each(|sequence| record(sequence).write(&mut bytes));
        bytes
    }

    fn read_back(bytes: &[u8]) -> Vec<Record> {
        records(bytes).map(|found| found.record).collect()
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_written_is_read_and_its_size_is_known() {
        let bytes = written(20);
        assert_eq!(read_back(&bytes), (1..=20).map(record).collect::<Vec<_>>());
        let sizes: u64 = (1..=20).map(|sequence| Record::size(record(sequence).json.len())).sum();
        assert_eq!(sizes, bytes.len() as u64);
        assert_eq!(records(&bytes).last().unwrap().end, bytes.len());
    }

    #[test]
    fn a_tail_that_was_torn_at_any_byte_costs_the_torn_record_alone() {
        let bytes = written(5);
        let ends: Vec<usize> = records(&bytes).map(|found| found.end).collect();
        for length in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(read_back(&bytes[..length]).len(), whole, "cut at {length}");
        }
    }

    #[test]
    fn any_byte_that_changed_costs_its_own_record_alone() {
        let bytes = written(5);
        let mut begin = 0;
        for (index, found) in records(&bytes).enumerate() {
            for at in begin..found.end {
                for flip in [1, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    let left: Vec<u64> = read_back(&changed).iter().map(|record| record.sequence).collect();
                    let expected: Vec<u64> = (1..=5).filter(|one| *one != index as u64 + 1).collect();
                    assert_eq!(left, expected, "byte {at} changed by {flip:#x}");
                }
            }
            begin = found.end;
        }
    }

    #[test]
    fn noise_holds_no_records() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut noise: Vec<u8> = (0..2000).map(|_| random.u8(..)).collect();
            noise.splice(100..100, MARK);
            assert_eq!(read_back(&noise), []);
        }
    }
}
