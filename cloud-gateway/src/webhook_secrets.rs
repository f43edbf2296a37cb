//! Secrets that webhooks are signed with. They are made, sealed and used here alone: what the store keeps is
//! ciphertext, and whoever asks for a signature gets a signature.

use std::{io::ErrorKind, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;
use runtime::{
    private_file::{self, PrivateFileError},
    random,
};

/// The key that seals them, from its file.
pub struct WebhookSecrets {
    key: RandomizedNonceKey,
}

/// Why the key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum WebhookKeyError {
    /// It cannot be read or written, or others can read it.
    #[error("the key of webhook secrets: {0}")]
    File(#[from] PrivateFileError),
    /// It holds something else.
    #[error("the key file {0} must hold 64 hex digits")]
    Content(String),
}

/// Why a secret cannot be used: it was sealed with another key, for another webhook, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook's secret cannot be opened; if webhooks.key was replaced, its owner has to rotate the secret"
)]
pub struct SealedError;

/// A new secret.
pub struct NewWebhookSecret {
    /// What its owner is shown once: `whsec_` and base64.
    pub shown: Secret<String>,
    /// What is kept.
    pub sealed: Vec<u8>,
}

impl WebhookSecrets {
    /// With the key in this file, which is made where there is none.
    ///
    /// # Errors
    /// If it is no private file with a key.
    pub fn load_or_create(path: &Path) -> Result<Self, WebhookKeyError> {
        let text = match private_file::read(path) {
            Err(PrivateFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let text = Secret::new(model::hex(&random::bytes::<KEY_BYTES>()));
                private_file::replace(path, text.expose().as_bytes())?;
                text
            }
            outcome => outcome?,
        };
        let bytes = model::unhex(text.expose().trim()).map(Secret::new);
        let bytes = bytes.filter(|bytes| bytes.expose().len() == KEY_BYTES);
        let bytes = bytes.ok_or_else(|| WebhookKeyError::Content(path.display().to_string()))?;
        let key =
            RandomizedNonceKey::new(&AES_256_GCM, bytes.expose()).expect("the length is that of AES-256");
        Ok(Self { key })
    }

    /// A new secret for a webhook: 32 random bytes.
    pub fn make(&self, webhook: &str) -> NewWebhookSecret {
        let bytes = Secret::new(random::bytes::<SECRET_BYTES>().to_vec());
        let mut sealed = bytes.expose().clone();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(bound_to(webhook)), &mut sealed)
            .expect("32 bytes are sealed in memory");
        sealed.splice(0..0, nonce.as_ref().iter().copied());
        let shown = Secret::new(format!("{PREFIX}{}", STANDARD.encode(bytes.expose())));
        NewWebhookSecret { shown, sealed }
    }

    /// The value of `webhook-signature` by Standard Webhooks 1.0: `v1,` and base64 of the HMAC-SHA256 over id,
    /// time and body, one for each of the secrets, with a space between them.
    ///
    /// # Errors
    /// If a secret cannot be opened.
    pub fn sign(
        &self,
        webhook: &str,
        sealed: &[&[u8]],
        message: &str,
        seconds: i64,
        body: &[u8],
    ) -> Result<String, SealedError> {
        let one = |sealed: &&[u8]| {
            let secret = self.open(webhook, sealed)?;
            Ok(format!("v1,{}", signature(secret.expose(), message, seconds, body)))
        };
        let all: Result<Vec<_>, SealedError> = sealed.iter().map(one).collect();
        Ok(all?.join(" "))
    }

    fn open(&self, webhook: &str, sealed: &[u8]) -> Result<Secret<Vec<u8>>, SealedError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(SealedError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealedError)?;
        let mut bytes = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, Aad::from(bound_to(webhook)), &mut bytes);
        let length = opened.map_err(|_| SealedError)?.len();
        bytes.truncate(length);
        Ok(Secret::new(bytes))
    }
}

impl std::fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSecrets").finish_non_exhaustive()
    }
}

/// A sealed secret belongs to one webhook: moved to another row it does not open.
fn bound_to(webhook: &str) -> Vec<u8> {
    format!("tcpmux webhook secret\0{webhook}").into_bytes()
}

fn signature(secret: &[u8], message: &str, seconds: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(format!("{message}.{seconds}.").as_bytes());
    context.update(body);
    STANDARD.encode(context.sign())
}

const PREFIX: &str = "whsec_";
const KEY_BYTES: usize = 32;
const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn secrets() -> (tempfile::TempDir, WebhookSecrets) {
        let folder = tempfile::tempdir().unwrap();
        let secrets = WebhookSecrets::load_or_create(&folder.path().join("webhooks.key")).unwrap();
        (folder, secrets)
    }

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn the_signature_is_that_of_the_standard() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let other = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_331, body);
        assert_ne!(signed, other, "control");
    }

    #[test]
    fn what_is_shown_signs_as_what_is_kept() {
        let (_folder, secrets) = secrets();
        let (old, new) = (secrets.make("wh_1"), secrets.make("wh_1"));
        let header = secrets.sign("wh_1", &[&new.sealed, &old.sealed], "msg_1", 5, b"{}").unwrap();
        let expected: Vec<String> = [new, old]
            .iter()
            .map(|made| {
                let bytes = STANDARD.decode(made.shown.expose().strip_prefix("whsec_").unwrap()).unwrap();
                assert_eq!(bytes.len(), 32);
                format!("v1,{}", signature(&bytes, "msg_1", 5, b"{}"))
            })
            .collect();
        assert_eq!(header, expected.join(" "));
    }

    #[test]
    fn a_sealed_secret_opens_for_its_webhook_and_with_its_key_alone() {
        let (_folder, secrets) = secrets();
        let made = secrets.make("wh_1");
        assert!(secrets.sign("wh_1", &[&made.sealed], "msg_1", 5, b"{}").is_ok(), "control");
        assert_eq!(secrets.sign("wh_2", &[&made.sealed], "msg_1", 5, b"{}"), Err(SealedError));
        let (_other_folder, other) = self::secrets();
        assert_eq!(other.sign("wh_1", &[&made.sealed], "msg_1", 5, b"{}"), Err(SealedError));
        let mut changed = made.sealed.clone();
        changed[20] ^= 1;
        for bad in [&changed[..], &[], &made.sealed[..12], &made.sealed[..40]] {
            assert_eq!(secrets.sign("wh_1", &[bad], "msg_1", 5, b"{}"), Err(SealedError));
        }
        let bytes = STANDARD.decode(&made.shown.expose()[6..]).unwrap();
        assert!(!made.sealed.windows(8).any(|window| bytes.windows(8).any(|other| other == window)));
    }

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webhooks.key");
        let made = WebhookSecrets::load_or_create(&path).unwrap().make("wh_1");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = WebhookSecrets::load_or_create(&path).unwrap();
        assert!(again.sign("wh_1", &[&made.sealed], "msg_1", 5, b"{}").is_ok());
        fs::write(&path, "hello").unwrap();
        assert!(matches!(WebhookSecrets::load_or_create(&path), Err(WebhookKeyError::Content(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(WebhookSecrets::load_or_create(&path), Err(WebhookKeyError::File(_))));
    }
}
