//! How far the cloud has acknowledged. It is a hint: if it is lost, items are sent again, and the cloud knows
//! their ids.

use std::{fs, io, path::Path};

use super::record::crc32c;

/// The sequence of the last item that was acknowledged; 0 where none is known.
pub(super) fn read(directory: &Path) -> u64 {
    let Ok(bytes) = fs::read(directory.join(FILE)) else { return 0 };
    let Some((number, checksum)) = bytes.split_first_chunk::<8>() else { return 0 };
    if checksum == crc32c(number).to_le_bytes() { u64::from_le_bytes(*number) } else { 0 }
}

/// Replaces it in one step. It is not flushed: flash wears out, and an older one does no harm.
pub(super) fn write(directory: &Path, sequence: u64) -> io::Result<()> {
    let number = sequence.to_le_bytes();
    let fresh = directory.join(FRESH);
    fs::write(&fresh, [number.as_slice(), &crc32c(&number).to_le_bytes()].concat())?;
    fs::rename(fresh, directory.join(FILE))
}

const FILE: &str = "acknowledged";
const FRESH: &str = "acknowledged.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), 0);
        write(folder.path(), 700).unwrap();
        write(folder.path(), 1 << 40).unwrap();
        assert_eq!(read(folder.path()), 1 << 40);
        let good = fs::read(folder.path().join(FILE)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(folder.path().join(FILE), &bad).unwrap();
            assert_eq!(read(folder.path()), 0, "byte {at}");
            fs::write(folder.path().join(FILE), &good[..at]).unwrap();
            assert_eq!(read(folder.path()), 0, "cut at {at}");
        }
    }
}
