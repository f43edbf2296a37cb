//! Fetching a provider's documents.

use std::{path::Path, time::Duration};

use http::{Request, StatusCode, header::ACCEPT};
use url::Url;

use crate::http::{ClientError, HttpClient, RootsError, client_trusting, is_loopback};

/// Why a document was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file of additional roots cannot be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// No complete answer.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// An answer that is no document. Redirects are not followed.
    #[error("{url} answered {status} instead of 200; redirects are not followed")]
    Status {
        /// The address.
        url: String,
        /// Its answer.
        status: StatusCode,
    },
}

/// Fetches small documents from sign-in providers: five seconds and 256 KiB at most, no redirects.
#[derive(Debug, Clone)]
pub struct KeyFetcher(HttpClient);

impl KeyFetcher {
    /// A fetcher that trusts the system's roots and those of a PEM file, where one is given.
    ///
    /// # Errors
    /// [`FetchError::Roots`] when that file cannot be read.
    pub fn new(additional_roots: Option<&Path>) -> Result<Self, FetchError> {
        let client = client_trusting(additional_roots)?;
        Ok(Self(client.within(CALL_TIME).at_most(MOST_BYTES)))
    }

    /// The client beneath, for calls that are no documents.
    pub fn client(&self) -> &HttpClient {
        &self.0
    }

    /// The document at this address.
    pub(super) async fn fetch(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let request = Request::get(url.as_str())
            .header(ACCEPT, "application/json")
            .body(http_body_util::Full::default())
            .map_err(|_| ClientError::Address(url.to_string()))?;
        let answer = self.0.call(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.to_string(), status: answer.status() });
        }
        Ok(answer.into_body().into())
    }
}

/// An address that may be fetched: https, or http on loopback where that is allowed.
pub(super) fn fetchable(text: &str, allow_loopback_http: bool) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let is_allowed = match url.scheme() {
        "https" => true,
        "http" => allow_loopback_http && is_loopback(host.trim_matches(['[', ']'])),
        _ => false,
    };
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (is_allowed && is_plain).then_some(url)
}

const CALL_TIME: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_allowed_loopback_addresses_are_fetched() {
        for good in
            ["https://login.example.com/x", "http://127.0.0.1:80/", "http://localhost/", "http://[::1]:9/"]
        {
            assert!(fetchable(good, true).is_some(), "{good}");
        }
        assert!(fetchable("http://127.0.0.1/", false).is_none());
        for bad in [
            "http://example.com/",
            "http://127.0.0.1.example.com/",
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "https://user@example.com/",
            "https://example.com/#x",
            "login.example.com",
            "",
        ] {
            assert!(fetchable(bad, true).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_ca_file_that_is_none_is_an_error() {
        assert!(matches!(KeyFetcher::new(Some(Path::new("/does/not/exist"))), Err(FetchError::Roots(_))));
    }
}
