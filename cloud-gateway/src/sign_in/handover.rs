//! Handing a login over to a device's own host: the cloud's cookie never leaves the cloud's origin, and a
//! device's host gets one that is good there alone.
//!
//! The browser comes from the device's host with the digest of a secret that it was given there, and goes back
//! with a code that is good once, for thirty seconds, at that host, with that secret. What it then holds is a
//! visit: it lives as long as the login behind it.

use std::{sync::Arc, time::Duration};

use model::{Code, DeviceId, Refusal, Secret, UserActor, read_host_label};
use runtime::Clock;
use store::{BrowserDigest, LoginRow, NewHandover, Store, StoreError};

use super::key::BrowserKey;
use crate::{authorizer::Authorizer, logins::Logins, token_routes};

/// Makes codes, takes them, and gives proxy tokens to visits.
#[derive(Debug)]
pub(crate) struct Handovers {
    logins: Arc<Logins>,
    authorizer: Arc<Authorizer>,
    store: Store,
    clock: Clock,
    /// What follows the label in the address of a device's host: `.{device_domain}` and the public port.
    suffix: Option<String>,
}

/// What a browser gets for its code.
#[derive(Debug)]
pub struct Welcome {
    /// For its cookie at the device's host.
    pub visit: Secret<String>,
    /// Where it wanted to be: a path and query that begin with `/`.
    pub path: String,
    /// How long the cookie is worth keeping.
    pub life: Duration,
}

impl Handovers {
    pub(crate) fn new(
        logins: Arc<Logins>,
        authorizer: Arc<Authorizer>,
        store: Store,
        clock: Clock,
        device_domain: Option<&str>,
        public_url: &str,
    ) -> Self {
        let port = url::Url::parse(public_url).ok().and_then(|url| url.port());
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let suffix = device_domain.map(|domain| format!(".{domain}{port}"));
        Self { logins, authorizer, store, clock, suffix }
    }

    /// Where the browser goes with its code. The address is made of our own parts: nothing else is possible.
    pub(super) async fn address(
        &self,
        login: &LoginRow,
        user: &UserActor,
        label: &str,
        path: String,
        binding: &str,
    ) -> Result<String, Refusal> {
        let absent = || Refusal::new(Code::NotFound, "this cloud shows no devices at hosts of their own");
        let suffix = self.suffix.as_ref().ok_or_else(absent)?;
        let bad = |detail: &'static str| Refusal::new(Code::BadRequest, detail);
        let (device, _) = read_host_label(label).ok_or_else(|| bad("`to` names no device"))?;
        let binding = read_digest(binding).ok_or_else(|| bad("`binding` is 64 hex digits"))?;
        if !is_path(&path) {
            return Err(bad("`path` is a path and query that begin with `/`"));
        }
        self.require_grant(user, &device).await?;
        let (code, now) = (BrowserKey::fresh(), self.clock.now());
        let handover = NewHandover {
            digest: code.digest(),
            tenant: login.tenant.clone(),
            login: login.digest,
            label: label.to_owned(),
            path,
            binding,
            expires_at: now.plus(CODE_LIFE),
        };
        let kept = self.store.add_handover(handover, CODES_OF_A_LOGIN, now).await;
        kept.map_err(|error| error.refusal("handing a login over"))?;
        Ok(format!("https://{label}{suffix}/.tcpmux/handover?code={}", code.expose()))
    }

    /// A code comes back at a device's host. Shown anywhere else, or without the secret that it is bound to, it is
    /// used up and worth nothing.
    pub(crate) async fn redeem(
        &self,
        code: &str,
        label: &str,
        binding: &str,
    ) -> Result<Option<Welcome>, Refusal> {
        let Some(code) = BrowserKey::shown(code) else { return Ok(None) };
        let taken = self.store.take_handover(code.digest()).await;
        let Some(taken) = taken.map_err(|error| error.refusal("taking a code"))? else { return Ok(None) };
        let now = self.clock.now();
        let is_right = taken.label == label && read_digest(binding) == Some(taken.binding);
        if !is_right || now >= taken.expires_at || self.logins.user(&taken.login).is_none() {
            return Ok(None);
        }
        let visit = BrowserKey::fresh();
        let begun = self.store.begin_visit(visit.digest(), &taken.login, label, VISITS_OF_A_LOGIN, now).await;
        match begun {
            Ok(()) => {}
            // Signed out in this very moment.
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.refusal("beginning a visit")),
        }
        let life = Duration::from_millis(taken.login.expires_at.millis().abs_diff(now.millis()));
        Ok(Some(Welcome { visit: Secret::new(visit.expose().to_owned()), path: taken.path, life }))
    }

    /// Whether a visit at this host goes on: its login was not ended and is not over.
    pub(crate) async fn goes_on(&self, visit: &str, label: &str) -> Result<bool, Refusal> {
        let Some(visit) = BrowserKey::shown(visit) else { return Ok(false) };
        let visit = self.store.visit(visit.digest()).await;
        let visit = visit.map_err(|error| error.refusal("finding a visit"))?;
        let Some(visit) = visit.filter(|visit| visit.label == label) else { return Ok(false) };
        if self.logins.user(&visit.login).is_none() {
            return Ok(false);
        }
        // An open stream is use: nobody is signed out for being idle while they watch.
        self.logins.see(&visit.login).await;
        Ok(true)
    }

    /// A proxy token for the device of this host, with what the person of a visit may do there now.
    pub(crate) async fn token(&self, visit: &str, label: &str) -> Result<Option<String>, Refusal> {
        let (Some(visit), Some((device, _))) = (BrowserKey::shown(visit), read_host_label(label)) else {
            return Ok(None);
        };
        let visit = self.store.visit(visit.digest()).await;
        let visit = visit.map_err(|error| error.refusal("finding a visit"))?;
        let Some(visit) = visit.filter(|visit| visit.label == label) else { return Ok(None) };
        let Some(user) = self.logins.user(&visit.login) else { return Ok(None) };
        self.logins.see(&visit.login).await;
        let minted = self.authorizer.for_login(&user, Some(device), visit.login.expires_at).await;
        Ok(Some(minted.map_err(token_routes::not_minted)?.token))
    }

    /// A person without a grant is told here, where a page can say it.
    async fn require_grant(&self, user: &UserActor, device: &DeviceId) -> Result<(), Refusal> {
        let grant = self.store.grant_of(user.tenant(), user.user(), device).await;
        let grant = grant.map_err(|error| error.refusal("reading a grant"))?;
        let now = self.clock.now();
        if grant.is_some_and(|grant| grant.until.is_none_or(|until| now < until)) {
            return Ok(());
        }
        let detail =
            "you have no access to this device, or there is no such device; its owner can give you some";
        Err(Refusal::new(Code::NotGranted, detail))
    }
}

fn read_digest(text: &str) -> Option<BrowserDigest> {
    model::unhex(text)?.try_into().ok()
}

/// Visible ASCII without a fragment, so that a browser reads it as it is written.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= LONGEST_PATH
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>".contains(&byte))
}

const CODE_LIFE: Duration = Duration::from_secs(30);
const CODES_OF_A_LOGIN: u32 = 32;
const VISITS_OF_A_LOGIN: u32 = 200;
const LONGEST_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_only_what_a_browser_reads_as_written() {
        for good in ["/", "/x?y=z&w", "//x/y", "/%2F..", "/?next=https://evil.example"] {
            assert!(is_path(good), "{good}");
        }
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        for bad in ["", "x", "https://evil.example/", "/\\evil", "/x\r\ny", "/x y", "/x#y", "/ü", &long] {
            assert!(!is_path(bad), "{bad:?}");
        }
    }
}
