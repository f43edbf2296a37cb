//! What `tcpmux login` keeps, and calling the cloud with it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use runtime::{
    Clock,
    http::client_trusting,
    jose::{Discovery, KeyFetcher, OauthError, UnverifiedToken, post_form},
    private_file::{self, PrivateFileError},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{admin, login};
use crate::exit::{Exit, Failure};

/// A person's sign-in on this machine. One at a time; the file is private (0600).
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SignedIn {
    /// The cloud's origin.
    pub(super) cloud: String,
    /// What vouches for its certificate; none: the system's roots.
    pub(super) ca: Option<PathBuf>,
    pub(super) issuer: String,
    pub(super) provider_ca: Option<PathBuf>,
    pub(super) client_id: String,
    /// What the cloud is shown.
    pub(super) token: String,
    /// Seconds since 1970.
    pub(super) expires_at: i64,
    pub(super) refresh_token: Option<String>,
}

impl SignedIn {
    /// The sign-in of this machine's user, if there is one.
    pub(super) fn load() -> Result<Option<Self>, Failure> {
        let Some(path) = file() else { return Ok(None) };
        match private_file::read(&path) {
            Ok(text) => serde_json::from_str(text.expose()).map(Some).map_err(|_| {
                let path = path.display();
                Failure::new(
                    Exit::Failed,
                    format!("{path} is damaged; remove it and run `tcpmux login` again"),
                )
            }),
            Err(PrivateFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(Failure::new(Exit::Failed, error)),
        }
    }

    /// The same where there has to be one.
    pub(super) fn require() -> Result<Self, Failure> {
        let detail =
            "nobody is signed in; run `tcpmux login --cloud URL`, or name an operator's data with --data";
        Self::load()?.ok_or_else(|| Failure::new(Exit::Forbidden, detail))
    }

    /// Writes it where the next command finds it.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let nowhere =
            || Failure::new(Exit::Failed, "there is neither HOME nor XDG_CONFIG_HOME to keep the sign-in in");
        let path = file().ok_or_else(nowhere)?;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed(&error))?;
        let text = serde_json::to_vec(self).map_err(|error| failed(&error))?;
        private_file::replace(&path, &text).map_err(|error| failed(&error))
    }

    /// Takes over what a token endpoint gave.
    pub(super) fn take(&mut self, answer: &Map<String, Value>) -> Result<(), Failure> {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        let token = text("id_token").ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "the sign-in provider gave no identity token; is the scope `openid` allowed?",
            )
        })?;
        // Whether it is a good one is for the cloud to say: here only its end matters.
        let read = UnverifiedToken::read(&token).ok().filter(|read| read.issuer() == self.issuer);
        let expires_at = read.and_then(|read| read.claimed_end());
        self.expires_at = expires_at.map(|end| end.secs()).ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "the sign-in provider's identity token cannot be read, or is another's",
            )
        })?;
        self.token = token;
        // A provider that rotates its refresh tokens gives a new one each time; another keeps the first.
        self.refresh_token = text("refresh_token").or(self.refresh_token.take());
        Ok(())
    }

    /// Calls the cloud as this person; the answer as JSON.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        self.refresh_if_old().await?;
        cloud_call(&self.cloud, self.ca.as_deref(), method, path, Some(&self.token), body).await
    }

    /// A proxy token for one device.
    pub(super) async fn proxy_token(&mut self, device: &model::DeviceId) -> Result<Value, Failure> {
        self.call(Method::POST, "/v1/token", Some(serde_json::json!({"device": device}))).await
    }

    async fn refresh_if_old(&mut self) -> Result<(), Failure> {
        if Clock::system().now().secs() + EARLY < self.expires_at {
            return Ok(());
        }
        let over = || Failure::new(Exit::Forbidden, "the sign-in is over; run `tcpmux login` again");
        let refresh_token = self.refresh_token.clone().ok_or_else(over)?;
        let fetcher = fetcher(self.provider_ca.as_deref())?;
        let discovery = discover(&self.issuer, &fetcher).await?;
        let endpoint = discovery.endpoint("token_endpoint").ok_or_else(over)?;
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.as_str()),
            ("client_id", self.client_id.as_str()),
        ];
        match post_form(&fetcher, &endpoint, &form, None).await {
            Ok(answer) => {
                self.take(&answer)?;
                self.keep()
            }
            Err(OauthError::Refused { error, .. }) if error == "invalid_grant" => Err(over()),
            Err(error) => Err(not_given(&error)),
        }
    }
}

/// Removes the sign-in from this machine.
pub(super) fn forget() -> Result<(), Failure> {
    let Some(path) = file() else { return Ok(()) };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Calls a cloud's user door, with a token or without.
pub(super) async fn cloud_call(
    cloud: &str,
    ca: Option<&Path>,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Result<Value, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{cloud}{path}: {error}"));
    let client = match ca {
        Some(ca) => admin::admin_client(ca)?,
        None => client_trusting(None).map_err(|error| usage(&error))?,
    };
    let mut request = Request::builder().method(method).uri(format!("{cloud}{path}"));
    if let Some(token) = token {
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| usage(&error))?;
        bearer.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, bearer);
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| usage(&error))?;
    let answer = client.call(request).await.map_err(|error| Failure::new(Exit::Network, error))?;
    let value: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if answer.status().is_success() { Ok(value) } else { Err(login::refused(answer.status(), &value)) }
}

/// How documents of providers are fetched.
pub(super) fn fetcher(provider_ca: Option<&Path>) -> Result<KeyFetcher, Failure> {
    KeyFetcher::new(provider_ca).map_err(|error| Failure::new(Exit::Usage, error))
}

/// What a provider says about itself.
pub(super) async fn discover(issuer: &str, fetcher: &KeyFetcher) -> Result<Discovery, Failure> {
    Discovery::fetch(issuer, fetcher).await.map_err(|error| Failure::new(Exit::Network, error))
}

/// The failure that a provider's no stands for.
pub(super) fn not_given(error: &OauthError) -> Failure {
    let exit = match error {
        OauthError::Call(_) => Exit::Network,
        OauthError::Refused { error, .. } if error == "access_denied" => Exit::Forbidden,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

/// `login.json` under the user's own configuration (XDG Base Directory Specification).
fn file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("tcpmux/login.json"))
}

/// A token that ends within this many seconds is renewed first.
const EARLY: i64 = 30;
