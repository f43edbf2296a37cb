//! The key store in files: PKCS#8 PEM, mode 0600, in a directory of mode 0700.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use model::Secret;

use crate::{KeyName, KeyStore, KeyStoreError, PrivateKey, PrivateKeyError, PublicKey, pem};

/// The two issuing keys, read once. The root key's file is never opened here.
#[derive(Debug)]
pub struct FileKeys {
    devices: PrivateKey,
    services: PrivateKey,
}

/// Why a key file or its directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileKeysError {
    /// The operating system said no.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read or write it.
    #[error("{} is open to others than its owner (mode {mode:o}); run: chmod {} {}", .path.display(), .wanted, .path.display())]
    OpenToOthers {
        /// Which file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: &'static str,
    },
    /// It is not a key file.
    #[error("{}: {reason}; restore the file from a backup", .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl FileKeys {
    /// Reads the two issuing keys in `dir`.
    pub fn open(dir: &Path) -> Result<Self, FileKeysError> {
        check_directory(dir)?;
        Ok(Self { devices: read_key(dir, KeyName::Devices)?, services: read_key(dir, KeyName::Services)? })
    }

    fn key(&self, name: KeyName) -> Result<&PrivateKey, KeyStoreError> {
        match name {
            KeyName::Devices => Ok(&self.devices),
            KeyName::Services => Ok(&self.services),
            KeyName::Root => Err(KeyStoreError::Absent(name)),
        }
    }
}

impl KeyStore for FileKeys {
    fn sign(&self, key: KeyName, message: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        self.key(key)?.sign_as(key, message)
    }

    fn public_key(&self, key: KeyName) -> Result<PublicKey, KeyStoreError> {
        Ok(self.key(key)?.public_key().clone())
    }
}

/// Makes a directory that only its owner can enter.
pub(crate) fn create_directory(dir: &Path) -> Result<(), FileKeysError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// Writes a key so that after a crash the file is there completely or not at all.
pub(crate) fn write_key(dir: &Path, name: KeyName, key: &PrivateKey) -> Result<(), FileKeysError> {
    let text = Secret::new(pem::encode(pem::PRIVATE_KEY, key.pkcs8_der().expose()));
    write_whole(&dir.join(key_file(name)), text.expose().as_bytes(), 0o600)
}

/// Writes a file beside its place, makes it durable, and moves it there.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), FileKeysError> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&beside)(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(at(&beside))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at(&beside))?;
    fs::rename(&beside, path).map_err(at(path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), FileKeysError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|file| file.sync_all()).map_err(at(dir))
}

fn read_key(dir: &Path, name: KeyName) -> Result<PrivateKey, FileKeysError> {
    let path = dir.join(key_file(name));
    let file = File::open(&path).map_err(at(&path))?;
    // The mode is asked of the open file, so that it cannot be another one a moment later.
    let mode = file.metadata().map_err(at(&path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileKeysError::OpenToOthers { path, mode, wanted: "600" });
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(at(&path))?;
    let text = Secret::new(text);
    let content = |reason: String| FileKeysError::Content { path: path.clone(), reason };
    let pkcs8 = pem::decode(pem::PRIVATE_KEY, text.expose()).map_err(|error| content(error.to_string()))?;
    let pkcs8 = Secret::new(pkcs8);
    PrivateKey::from_pkcs8(pkcs8.expose()).map_err(|error: PrivateKeyError| content(error.to_string()))
}

fn check_directory(dir: &Path) -> Result<(), FileKeysError> {
    let mode = fs::metadata(dir).map_err(at(dir))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileKeysError::OpenToOthers { path: dir.to_owned(), mode, wanted: "700" });
    }
    Ok(())
}

fn key_file(name: KeyName) -> String {
    format!("{}.key", name.as_str())
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> FileKeysError {
    let path = path.to_owned();
    move |source| FileKeysError::Io { path, source }
}

/// A PKCS#8 P-384 key has less than 300 bytes of PEM.
const LARGEST: u64 = 16 * 1024;
