//! The data directory: one process at a time, secrets that only its owner can read.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use model::Secret;
use runtime::private_file::{self, PrivateFileError};
use serde::{Deserialize, Serialize};

/// A data directory that this process owns until it ends.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process has it.
    #[error("{0} is in use by another tcpmux process; stop it, or name another directory with --data")]
    InUse(PathBuf),
    /// Others could see the secrets in it.
    #[error("{path} can be entered by others (mode {mode:o}); run: chmod 700 {path}")]
    Open {
        /// The directory.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A file in it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

/// The addresses that the doors are bound to, as `listening.json` has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listening {
    /// The user door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<SocketAddr>,
    /// The device door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<SocketAddr>,
    /// The admin door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// The peer door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The published ports, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<SocketAddr>,
    /// What the public address is.
    #[serde(default)]
    pub public_url: String,
}

impl DataDirectory {
    /// Opens the directory, making it if it is not there, and locks it against a second process.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let fail = |source| DataError::Io { path: path.display().to_string(), source };
        if path.exists() {
            check_mode(path)?;
        } else {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        // What a killed process left says nothing about this one.
        match fs::remove_file(path.join(LISTENING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
            _ => Ok(Self { path: path.to_owned(), _lock: lock }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The admin key; made of 32 random bytes at the first start. True if it was made just now.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn admin_key(&self) -> Result<(Secret<String>, bool), DataError> {
        let path = self.path.join(ADMIN_KEY);
        if path.exists() {
            return Ok((read_secret(&path)?, false));
        }
        let key = model::hex(&runtime::random::bytes::<32>());
        private_file::replace(&path, key.as_bytes())?;
        Ok((Secret::new(key), true))
    }

    /// A number that grows with every start, for a process that has no store.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn next_epoch(&self) -> Result<u32, DataError> {
        let path = self.path.join("epoch");
        let last = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        let next = last.unwrap_or(0) + 1;
        private_file::replace(&path, next.to_string().as_bytes())?;
        Ok(next)
    }

    /// Tells others where the doors are. Written once all of them are open.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn announce(&self, listening: &Listening) -> Result<(), DataError> {
        let text = serde_json::to_vec(listening).expect("addresses are JSON");
        Ok(private_file::replace(&self.path.join(LISTENING), &text)?)
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // The doors are closed; a file that says otherwise would mislead. If it cannot be removed,
        // the next start does it.
        let _ = fs::remove_file(self.path.join(LISTENING));
    }
}

/// Reads what a running process announced.
///
/// # Errors
/// If there is no such file: nothing runs on this directory.
pub fn listening(data: &Path) -> io::Result<Listening> {
    serde_json::from_slice(&fs::read(data.join(LISTENING))?).map_err(io::Error::other)
}

/// Reads a secret from a file that only its owner may read; line ends at the end are dropped.
///
/// # Errors
/// If others may read it too, or it cannot be read.
pub fn read_secret(path: &Path) -> Result<Secret<String>, PrivateFileError> {
    let text = private_file::read(path)?;
    Ok(Secret::new(text.expose().trim_end_matches(['\n', '\r']).to_owned()))
}

fn check_mode(directory: &Path) -> Result<(), DataError> {
    let path = directory.display().to_string();
    match fs::metadata(directory) {
        Ok(metadata) => match metadata.permissions().mode() & 0o7777 {
            mode if mode & 0o077 == 0 => Ok(()),
            mode => Err(DataError::Open { path, mode }),
        },
        Err(source) => Err(DataError::Io { path, source }),
    }
}

/// The admin key's file name.
pub const ADMIN_KEY: &str = "admin.key";
/// The CA's root certificate, beneath the data directory.
pub const ROOT: &str = "ca/root.crt";
const LISTENING: &str = "listening.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_a_third_start_finds_the_same_key() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("data");
        let first = DataDirectory::open(&path).unwrap();
        let (key, made) = first.admin_key().unwrap();
        assert!(made && key.expose().len() == 64);
        assert!(matches!(DataDirectory::open(&path), Err(DataError::InUse(_))));
        drop(first);
        let again = DataDirectory::open(&path).unwrap();
        let (same, made) = again.admin_key().unwrap();
        assert!(!made && same.matches(key.expose().as_bytes()));
        assert_eq!(fs::metadata(path.join(ADMIN_KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_or_a_key_that_others_can_read_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("data");
        drop(DataDirectory::open(&path).unwrap().admin_key().unwrap());
        fs::set_permissions(path.join(ADMIN_KEY), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path.join(ADMIN_KEY)), Err(PrivateFileError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let message = DataDirectory::open(&path).unwrap_err().to_string();
        assert!(message.contains("chmod 700"), "{message}");
    }

    #[test]
    fn epochs_grow() {
        let base = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&base.path().join("data")).unwrap();
        assert!(data.next_epoch().unwrap() < data.next_epoch().unwrap());
    }
}
