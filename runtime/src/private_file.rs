//! Files that only their owner may read: keys and tokens.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use model::Secret;

/// Why a private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Others could have read it.
    #[error("{} can be read by others (mode {mode:o}); if nobody did, run: chmod 600 {}", .path.display(), .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The system refuses.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Reads at most 64 KiB of text from a file that only its owner may read.
///
/// # Errors
/// If others may read it too, or it cannot be read.
pub fn read(path: &Path) -> Result<Secret<String>, PrivateFileError> {
    let fail = |source| PrivateFileError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    // Asked of the open file, so that it cannot be another one a moment later.
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    let read = file.take(LARGEST).read_to_string(&mut text);
    let text = Secret::new(text);
    read.map_err(fail).map(|_| text)
}

/// Replaces a file as a whole, also across a power cut: it is written beside its name and then takes it.
///
/// # Errors
/// If it cannot be written; what was there before still is.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let beside = path.with_added_extension("new");
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| PrivateFileError::Io { path: path.to_owned(), source })
}

const LARGEST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_private_whole_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.key");
        fs::write(folder.path().join("some.key.new"), "half of one").unwrap();
        for content in ["first and longer", "second"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap().expose(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.key");
        replace(&path, b"secret").unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && !error.contains("secret"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::Io { .. })));
    }
}
