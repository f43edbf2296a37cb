//! The account that may send push messages: a service account's key, and the access tokens that it is worth
//! (RFC 7523). Neither key nor token leaves this file but as the header of a request.

use std::{path::Path, time::Duration};

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, StatusCode, header::CONTENT_TYPE};
use model::{Secret, Timestamp};
use runtime::{
    Clock,
    http::{ClientError, HttpClient},
    private_file::{self, PrivateFileError},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

/// A service account of Google's kind.
pub struct PushAccount {
    key: KeyPair,
    key_id: String,
    email: String,
    project: String,
    token_url: String,
    client: HttpClient,
    clock: Clock,
    /// One caller at a time asks for a token; the others take the one it got.
    token: Mutex<Option<AccessToken>>,
}

#[derive(Clone)]
struct AccessToken {
    header: HeaderValue,
    until: Timestamp,
}

/// Why the credentials file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PushAccountError {
    /// It cannot be read, or others can read it.
    #[error("[fcm] credentials_file: {0}")]
    File(#[from] PrivateFileError),
    /// It is no service account.
    #[error("[fcm] credentials_file {path} is no service account with a key: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum AccessTokenError {
    /// The token endpoint was not reached.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// It said no.
    #[error("the token endpoint answered {0}; check the service account and this machine's clock")]
    Refused(StatusCode),
    /// It said something else.
    #[error("the token endpoint's answer is no token")]
    Answer,
    /// The assertion could not be signed.
    #[error("the crypto library could not sign with the service account's key")]
    Signing,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: String,
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
    token_uri: String,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u32,
}

impl PushAccount {
    /// The account in this file, which only its owner may read. Tokens are fetched with this client.
    ///
    /// # Errors
    /// If it holds something else.
    pub fn load(path: &Path, client: HttpClient, clock: Clock) -> Result<Self, PushAccountError> {
        let text = private_file::read(path)?;
        let content = |reason| PushAccountError::Content { path: path.display().to_string(), reason };
        let file: File = serde_json::from_str(text.expose())
            .map_err(|_| content("it is not the JSON file that the console of the service gives"))?;
        let key_text = Secret::new(file.private_key);
        if file.kind != "service_account" {
            return Err(content("its type is not service_account"));
        }
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        if file.project_id.is_empty() || !is_name(&file.project_id) {
            return Err(content("project_id is no name of a project"));
        }
        let der = PrivateKeyDer::from_pem_slice(key_text.expose().as_bytes())
            .map_err(|_| content("private_key is no PEM"))?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(content("private_key is no RSA key")),
        };
        Ok(Self {
            key: key.map_err(|_| content("private_key is no RSA key of 2048 bits or more"))?,
            key_id: file.private_key_id,
            email: file.client_email,
            project: file.project_id,
            token_url: file.token_uri,
            client: client.within(CALL_TIME),
            clock,
            token: Mutex::new(None),
        })
    }

    /// The project whose apps it sends to.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The `Authorization` header of a request, marked as sensitive. `refused` is a value that was refused although
    /// it should still have been good: another is fetched then.
    ///
    /// # Errors
    /// [`AccessTokenError`], for the log.
    pub async fn authorization(
        &self,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, AccessTokenError> {
        let mut token = self.token.lock().await;
        let now = self.clock.now();
        if let Some(known) = token.as_ref()
            && known.until > now
            && refused != Some(&known.header)
        {
            return Ok(known.header.clone());
        }
        let fetched = self.fetch(now).await?;
        let header = fetched.header.clone();
        *token = Some(fetched);
        Ok(header)
    }

    async fn fetch(&self, now: Timestamp) -> Result<AccessToken, AccessTokenError> {
        let form = format!("grant_type={GRANT_TYPE}&assertion={}", self.assertion(now)?);
        let request = Request::post(&self.token_url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes().into())
            .map_err(|_| ClientError::Address(self.token_url.clone()))?;
        let answer = self.client.call(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(AccessTokenError::Refused(answer.status()));
        }
        let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| AccessTokenError::Answer)?;
        let value = Secret::new(format!("Bearer {}", answer.access_token));
        drop(Secret::new(answer.access_token));
        let mut header = HeaderValue::try_from(value.expose()).map_err(|_| AccessTokenError::Answer)?;
        header.set_sensitive(true);
        let life = Duration::from_secs(answer.expires_in.into()).saturating_sub(BEFORE_ITS_END);
        Ok(AccessToken { header, until: now.plus(life) })
    }

    /// The signed assertion (RFC 7523 §3): an hour at most, for the token endpoint alone.
    fn assertion(&self, now: Timestamp) -> Result<String, AccessTokenError> {
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let body = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_url,
            "iat": now.secs(),
            "exp": now.secs() + ASSERTION_SECONDS,
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(head), encode(body));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| AccessTokenError::Signing)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl std::fmt::Debug for PushAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushAccount").field("project", &self.project).finish_non_exhaustive()
    }
}

const GRANT_TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const ASSERTION_SECONDS: i64 = 600;
const CALL_TIME: Duration = Duration::from_secs(10);
const BEFORE_ITS_END: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "push_account_tests.rs"]
mod tests;
