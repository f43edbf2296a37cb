//! The authorizer's key file: PEM, PKCS#8, one key or two.
//!
//! The first key signs; all of them verify. To rotate, put a new key before the old one and restart; take the
//! old one out once the longest token made with it has ended.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;
use runtime::{
    jose::{SigningError, SigningKey},
    private_file::{self, PrivateFileError},
};

/// Why the key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written, or others can read it.
    #[error("the authorizer's key: {0}")]
    File(#[from] PrivateFileError),
    /// It holds something else.
    #[error("the key file {path} must hold one or two unencrypted PKCS#8 P-256 keys in PEM: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No key could be made.
    #[error("cannot make the authorizer's key: {0}")]
    Make(#[from] SigningError),
}

/// The keys of the file, made with one new key where there is none. At least one, at most two.
pub(crate) fn load_or_create(path: &Path) -> Result<Vec<SigningKey>, KeyFileError> {
    match private_file::read(path) {
        Ok(text) => {
            read(text.expose()).map_err(|reason| KeyFileError::Content { path: path.to_owned(), reason })
        }
        Err(PrivateFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = SigningKey::generate()?;
            let der = STANDARD.encode(key.to_pkcs8()?.expose());
            let text = Secret::new(format!("{BEGIN}\n{der}\n{END}\n"));
            private_file::replace(path, text.expose().as_bytes())?;
            Ok(vec![key])
        }
        Err(error) => Err(error.into()),
    }
}

fn read(text: &str) -> Result<Vec<SigningKey>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let block = &rest[begin + BEGIN.len()..];
        let end = block.find(END).ok_or("a key has no end line")?;
        let base64 = Secret::new(block[..end].split_ascii_whitespace().collect::<String>());
        let der = STANDARD.decode(base64.expose()).map_err(|_| "a key is not base64")?;
        keys.push(SigningKey::from_pkcs8(Secret::new(der).expose()).map_err(|error| error.to_string())?);
        rest = &block[end + END.len()..];
    }
    match keys.len() {
        0 => Err(format!("there is no `{BEGIN}`")),
        1 | 2 => Ok(keys),
        count => Err(format!("there are {count} keys")),
    }
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_first_start_makes_a_private_key_and_the_second_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorizer.key");
        let made = load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = load_or_create(&path).unwrap();
        assert_eq!(made[0].id(), kept[0].id());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn two_keys_are_current_and_previous() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.key"), folder.path().join("new.key"));
        let previous = load_or_create(&old).unwrap();
        let current = load_or_create(&new).unwrap();
        let both = format!("{}{}", fs::read_to_string(&new).unwrap(), fs::read_to_string(&old).unwrap());
        fs::write(&new, &both).unwrap();
        let keys = load_or_create(&new).unwrap();
        assert_eq!((keys[0].id(), keys[1].id()), (current[0].id(), previous[0].id()));
        fs::write(&new, format!("{both}{both}")).unwrap();
        assert!(matches!(load_or_create(&new), Err(KeyFileError::Content { .. })));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorizer.key");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_create(&path),
            Err(KeyFileError::File(PrivateFileError::Open { mode: 0o640, .. }))
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for content in [
            "",
            "hello",
            &format!("{BEGIN}\n"),
            &format!("{BEGIN}\n!\n{END}\n"),
            &format!("{BEGIN}\nAAAA\n{END}\n"),
        ] {
            fs::write(&path, content).unwrap();
            assert!(matches!(load_or_create(&path), Err(KeyFileError::Content { .. })), "{content:?}");
        }
    }
}
