//! The claim code that this device shows, in a file of its own: there exactly while nobody owns the device.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use model::{ClaimCode, ClaimDigest};
use runtime::private_file::{self, PrivateFileError};

/// Where the code is kept.
#[derive(Debug, Clone)]
pub struct ClaimFile {
    path: PathBuf,
}

/// Why a code cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ClaimFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It holds something else.
    #[error("{} holds no claim code ({problem}); the cloud sends a new one with the next connection", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: model::ClaimCodeError,
    },
}

impl ClaimFile {
    /// The file at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The code that is shown now.
    ///
    /// # Errors
    /// If there is a file that cannot be read, that others can read, or that holds something else.
    pub fn read(&self) -> Result<Option<ClaimCode>, ClaimFileError> {
        let text = match private_file::read(&self.path) {
            Err(PrivateFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            outcome => outcome?,
        };
        let broken = |problem| ClaimFileError::Broken { path: self.path.clone(), problem };
        text.expose().parse().map(Some).map_err(broken)
    }

    /// What the hello tells of the code; nothing for a file that cannot be used, so that a new code comes.
    pub(crate) fn digest(&self) -> Option<ClaimDigest> {
        match self.read() {
            Ok(code) => code.as_ref().map(digest_of),
            Err(error) => {
                tracing::warn!(%error, "the claim code cannot be used");
                None
            }
        }
    }

    /// Shows this code and no other from now on, also after a power cut.
    pub(crate) fn put(&self, code: &ClaimCode) -> Result<(), ClaimFileError> {
        let text = code.reveal();
        Ok(private_file::replace(&self.path, text.expose().as_bytes())?)
    }

    /// Shows none any more.
    pub(crate) fn remove(&self) -> Result<(), ClaimFileError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(PrivateFileError::Io { path: self.path.clone(), source }.into())
            }
            Err(_) => Ok(()),
            Ok(()) => {
                // A power cut must not bring it back.
                let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let synced =
                    fs::File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
                synced.map_err(|source| PrivateFileError::Io { path: self.path.clone(), source }.into())
            }
        }
    }
}

/// SHA-256 over the letters.
fn digest_of(code: &ClaimCode) -> ClaimDigest {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest(&SHA256, code.letters()).as_ref());
    ClaimDigest(octets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_code_is_kept_privately_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = ClaimFile::at(folder.path().join("claim_code"));
        assert_eq!((file.read().unwrap(), file.digest()), (None, None));
        for seed in [1, 2] {
            let code = ClaimCode::from_random([seed; 16]);
            file.put(&code).unwrap();
            assert_eq!(file.read().unwrap(), Some(code.clone()));
            assert_eq!(file.digest(), Some(digest_of(&code)));
            assert_eq!(fs::read_to_string(file.path()).unwrap(), *code.reveal().expose());
            assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_used_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = ClaimFile::at(folder.path().join("claim_code"));
        fs::write(file.path(), "garbage").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(file.read(), Err(ClaimFileError::Broken { .. })) && file.digest().is_none());
        // Others may have read it; the next one is private again.
        file.put(&ClaimCode::from_random([1; 16])).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.read().is_err() && file.digest().is_none());
        file.put(&ClaimCode::from_random([2; 16])).unwrap();
        assert!(file.digest().is_some());
    }
}
