//! The keys of an issuer elsewhere, kept fresh.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{
    Discovery, Expectations, KeyFetcher, KeySet, KeySetError, TokenBody, TokenError, UnverifiedToken,
    fetch::{FetchError, fetchable},
};
use crate::{Backoff, Tasks};

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Where the issuer's discovery document says (OpenID Connect Discovery §4).
    Discovery,
    /// At this address.
    Jwks(String),
}

/// Why the keys of an issuer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RemoteKeySetError {
    /// The configured issuer is no address to ask.
    #[error(
        "the issuer `{0}` must be an https address (or http on loopback) without query, user or fragment"
    )]
    Issuer(String),
    /// The address of the keys is not allowed.
    #[error("the JWKS address `{0}` must be https (or http on loopback, for an issuer on loopback)")]
    Address(String),
    /// A document was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The discovery document is of no use.
    #[error("the discovery document at {url} {reason}")]
    Discovery {
        /// Where it was.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The key set is of no use.
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// The keys of one issuer, fetched from it. While it is down the last good set stands; before the first
/// success its tokens are refused with [`TokenError::KeysUnavailable`].
#[derive(Debug)]
pub struct RemoteKeySet {
    issuer: String,
    source: KeySource,
    fetcher: KeyFetcher,
    keys: Arc<KeySet>,
    /// What the issuer last said about itself, and when a fetch of it last ended, well or not.
    discovery: ArcSwapOption<Discovery>,
    asked: Mutex<Option<(Instant, bool)>>,
    /// Held while fetching, so that there is one fetch however many ask; remembers when the last one began.
    /// The last fetch for an unknown key; fetches of the routine do not count.
    last_unknown: Mutex<Option<Instant>>,
}

impl RemoteKeySet {
    /// Checks the addresses; fetches nothing yet.
    ///
    /// # Errors
    /// [`RemoteKeySetError::Issuer`] and [`RemoteKeySetError::Address`]. With a plain JWKS address the issuer is
    /// only a name, compared with `iss`.
    pub fn new(issuer: &str, source: KeySource, fetcher: KeyFetcher) -> Result<Arc<Self>, RemoteKeySetError> {
        match &source {
            KeySource::Discovery => drop(discovery_url(issuer)?),
            KeySource::Jwks(url) => drop(jwks_url(url, true)?),
        }
        Ok(Arc::new(Self {
            issuer: issuer.to_owned(),
            source,
            fetcher,
            keys: Arc::default(),
            discovery: ArcSwapOption::empty(),
            asked: Mutex::default(),
            last_unknown: Mutex::default(),
        }))
    }

    /// The issuer's name, as `iss` must have it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The keys known now; the set is renewed in place.
    pub fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    /// Whether the keys were ever fetched.
    pub fn is_loaded(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Verifies a token of this issuer. An unknown `kid` makes one fetch, at most one in ten seconds, and waits for it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(
        &self,
        token: &UnverifiedToken<'_>,
        expected: &Expectations<'_>,
    ) -> Result<TokenBody, TokenError> {
        let mut outcome = token.verify(&self.keys, expected);
        if outcome == Err(TokenError::UnknownKey) {
            self.refresh_for_unknown_key().await;
            outcome = token.verify(&self.keys, expected);
        }
        match outcome {
            Err(TokenError::UnknownKey) if !self.is_loaded() => Err(TokenError::KeysUnavailable),
            outcome => outcome,
        }
    }

    /// Fetches the keys now.
    ///
    /// # Errors
    /// [`RemoteKeySetError`]; then the keys are as before.
    pub async fn refresh(&self) -> Result<(), RemoteKeySetError> {
        let url = match &self.source {
            KeySource::Jwks(url) => jwks_url(url, true)?,
            KeySource::Discovery => {
                let discovery = Discovery::fetch(&self.issuer, &self.fetcher).await?;
                let jwks = discovery.jwks()?;
                self.discovery.store(Some(Arc::new(discovery)));
                jwks
            }
        };
        let document = self.fetcher.fetch(&url).await?;
        self.keys.replace(KeySet::read_jwks(&document)?);
        Ok(())
    }

    /// What the issuer says about itself, not older than ten seconds; `None` where it cannot be asked, which is
    /// remembered for as long. One fetch however many ask: a new sign-in begins only with a provider that answers.
    pub async fn discovery(&self) -> Option<Arc<Discovery>> {
        let mut asked = self.asked.lock().await;
        let is_fresh = |(at, _): &(Instant, bool)| at.elapsed() < DISCOVERY_EVERY;
        let answered = match asked.filter(is_fresh) {
            Some((_, answered)) => answered,
            None => {
                let outcome = self.refresh().await;
                if let Err(error) = &outcome {
                    tracing::warn!(issuer = self.issuer, %error, "a sign-in cannot begin");
                }
                *asked = Some((Instant::now(), outcome.is_ok()));
                outcome.is_ok()
            }
        };
        self.discovery.load_full().filter(|_| answered)
    }

    /// How documents are fetched from this issuer.
    pub fn fetcher(&self) -> &KeyFetcher {
        &self.fetcher
    }

    /// Keeps the keys fresh in a task: soon again after a failure, otherwise every ten minutes.
    pub fn keep_fresh(self: &Arc<Self>, tasks: &Tasks) {
        let keys = Arc::clone(self);
        tasks.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_secs(1), RETRY_AT_MOST);
            let mut is_failing = false;
            loop {
                let outcome = keys.refresh().await;
                keys.tell(&outcome, is_failing);
                is_failing = outcome.is_err();
                let delay = if is_failing {
                    backoff.next_delay()
                } else {
                    backoff.reset();
                    REFRESH_EVERY.mul_f64(0.9 + 0.2 * fastrand::f64())
                };
                tokio::time::sleep(delay).await;
            }
        });
    }

    /// One line in the log when it changes, not one an attempt.
    fn tell(&self, outcome: &Result<(), RemoteKeySetError>, was_failing: bool) {
        let issuer = &self.issuer;
        match outcome {
            Ok(()) if was_failing => tracing::info!(issuer, "the issuer's keys can be fetched again"),
            Ok(()) => tracing::debug!(issuer, "fetched the issuer's keys"),
            Err(error) if was_failing => {
                tracing::debug!(issuer, %error, "still cannot fetch the issuer's keys")
            }
            Err(error) => {
                let has_keys = self.is_loaded();
                tracing::warn!(issuer, %error, has_keys, "cannot fetch the issuer's keys; trying on");
            }
        }
    }

    async fn refresh_for_unknown_key(&self) {
        let mut last = self.last_unknown.lock().await;
        // Whoever waited for the lock finds the fetch that was made in the meantime.
        if last.is_some_and(|at| at.elapsed() < UNKNOWN_KEY_EVERY) {
            return;
        }
        *last = Some(Instant::now());
        if let Err(error) = self.refresh().await {
            tracing::debug!(issuer = self.issuer, %error, "no keys for an unknown kid");
        }
    }
}

pub(super) fn discovery_url(issuer: &str) -> Result<Url, RemoteKeySetError> {
    let url = fetchable(issuer, true).filter(|url| url.query().is_none());
    if url.is_none() {
        return Err(RemoteKeySetError::Issuer(issuer.to_owned()));
    }
    let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    fetchable(&address, true).ok_or_else(|| RemoteKeySetError::Issuer(issuer.to_owned()))
}

pub(super) fn jwks_url(text: &str, allow_loopback_http: bool) -> Result<Url, RemoteKeySetError> {
    fetchable(text, allow_loopback_http).ok_or_else(|| RemoteKeySetError::Address(text.to_owned()))
}

const REFRESH_EVERY: Duration = Duration::from_secs(600);
const RETRY_AT_MOST: Duration = Duration::from_secs(60);
const DISCOVERY_EVERY: Duration = Duration::from_secs(10);
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
