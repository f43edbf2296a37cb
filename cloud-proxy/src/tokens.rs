//! The tokens that this proxy takes: whose, and what they say. Who may do what with them is decided
//! in `admit`, anew for every request.
//!
//! A token of a known digest is not verified again for a while; its end is looked at every time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use model::{DeviceId, Level, ServiceName, ServiceSet, TenantName, Timestamp, UserId};
use runtime::jose::{
    Expectations, KeySet, RemoteKeySet, TokenBody, TokenError, TypRule, UnverifiedToken, bearer,
};
use serde_json::Value;

/// A signer of proxy tokens, and what is believed of it.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `iss`, compared byte for byte.
    pub name: String,
    /// Its public keys.
    pub keys: IssuerKeys,
    /// What its tokens must say.
    pub rule: IssuerRule,
}

/// Where the public keys of an issuer are.
#[derive(Debug, Clone)]
pub enum IssuerKeys {
    /// In this process: the gateway replaces them as they are rotated.
    Held(Arc<KeySet>),
    /// Elsewhere; fetched and kept fresh.
    Remote(Arc<RemoteKeySet>),
}

/// What the tokens of an issuer must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerRule {
    /// Our own authorizer: the token names the tenant, and with `gv` the state of the grants it was minted from.
    Authorizer,
    /// The operator's signer in the minimal deployment: all its tokens are of this tenant, there is no `gv`.
    Operator(TenantName),
}

/// The issuers whose tokens are taken, and the tokens verified lately.
#[derive(Debug)]
pub struct Tokens {
    issuers: Vec<Issuer>,
    /// Sharded by digest so that requests do not meet at one lock; each shard holds at most [`SHARD_SIZE`].
    verified: [Mutex<HashMap<Digest, Verified>>; SHARDS],
}

type Digest = [u8; 32];

#[derive(Debug, Clone)]
struct Verified {
    token: Arc<ProxyToken>,
    /// Then the signature is checked again: a key taken out of a set must not live on here.
    again_at: Timestamp,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyToken {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// The subject where it is a user of this cloud: the ones whose grants can change.
    pub(crate) user: Option<UserId>,
    pub(crate) tenant: TenantName,
    /// The tenant's grant sequence at minting; `None` where there are no grants.
    pub(crate) grant_sequence: Option<u64>,
    pub(crate) expires_at: Timestamp,
    /// Until when streams opened with it may live.
    pub(crate) until: Timestamp,
    pub(crate) devices: BTreeMap<DeviceId, DeviceEntry>,
}

/// What a token lets its bearer do on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceEntry {
    pub(crate) level: Level,
    pub(crate) services: ServiceSet,
}

impl Tokens {
    /// Takes the tokens of these issuers and of nobody else.
    pub fn new(issuers: Vec<Issuer>) -> Self {
        Self { issuers, verified: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The verified token of a request. `now` is before its end, and its signature stands.
    pub(crate) async fn of_request(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Arc<ProxyToken>, TokenError> {
        self.of_text(bearer(headers)?, now).await
    }

    /// The same for a token that came another way.
    pub(crate) async fn of_text(&self, text: &str, now: Timestamp) -> Result<Arc<ProxyToken>, TokenError> {
        let key: Digest = digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes");
        let token = match self.remembered(&key, now) {
            Some(token) => token,
            None => {
                let token = Arc::new(self.verify(text, now).await?);
                self.remember(key, Arc::clone(&token), now);
                token
            }
        };
        if now >= token.expires_at || now >= token.until {
            return Err(TokenError::Expired);
        }
        Ok(token)
    }

    /// The name of our own authorizer; empty where there is none.
    pub(crate) fn own_issuer(&self) -> &str {
        let own = self.issuers.iter().find(|issuer| issuer.rule == IssuerRule::Authorizer);
        own.map_or("", |issuer| &issuer.name)
    }

    async fn verify(&self, text: &str, now: Timestamp) -> Result<ProxyToken, TokenError> {
        let unverified = UnverifiedToken::read(text)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.name == unverified.issuer());
        let issuer = issuer.ok_or(TokenError::Issuer)?;
        let expected = Expectations {
            issuer: &issuer.name,
            audience: AUDIENCE,
            typ: TypRule::AccessToken,
            now,
            leeway: LEEWAY,
        };
        let body = match &issuer.keys {
            IssuerKeys::Held(keys) => unverified.verify(keys, &expected)?,
            IssuerKeys::Remote(keys) => keys.verify(&unverified, &expected).await?,
        };
        ProxyToken::read(body, &issuer.rule)
    }

    fn remembered(&self, key: &Digest, now: Timestamp) -> Option<Arc<ProxyToken>> {
        let shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        shard.get(key).filter(|verified| now < verified.again_at).map(|verified| Arc::clone(&verified.token))
    }

    fn remember(&self, key: Digest, token: Arc<ProxyToken>, now: Timestamp) {
        let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= SHARD_SIZE {
            shard.retain(|_, verified| now < verified.again_at && now < verified.token.expires_at);
        }
        if shard.len() >= SHARD_SIZE {
            // Verifying again costs less than keeping an order of use.
            shard.clear();
        }
        shard.insert(key, Verified { token, again_at: now.plus(REMEMBERED) });
    }

    fn shard(&self, key: &Digest) -> &Mutex<HashMap<Digest, Verified>> {
        &self.verified[usize::from(key[0]) % SHARDS]
    }
}

impl ProxyToken {
    fn read(body: TokenBody, rule: &IssuerRule) -> Result<Self, TokenError> {
        let user: Option<UserId> = body.subject.parse().ok();
        let issued_at = body.issued_at.ok_or(TokenError::Lacks("iat"))?;
        let (tenant, grant_sequence) = match rule {
            IssuerRule::Authorizer => {
                let tenant = tenant(&body)?.ok_or(TokenError::Lacks("tenant"))?;
                let sequence = match body.members.get("gv") {
                    Some(value) => Some(value.as_u64().ok_or(TokenError::Member("gv"))?),
                    None if user.is_none() => None,
                    None => return Err(TokenError::Lacks("gv")),
                };
                (tenant, sequence)
            }
            IssuerRule::Operator(of_issuer) => {
                if tenant(&body)?.is_some_and(|named| named != *of_issuer) {
                    return Err(TokenError::Member("tenant"));
                }
                (of_issuer.clone(), None)
            }
        };
        let latest = issued_at.plus(LONGEST_STREAM);
        let until = body.moment("until")?.unwrap_or(body.expires_at).min(latest);
        let devices = devices(body.members.get("devices").ok_or(TokenError::Lacks("devices"))?)
            .ok_or(TokenError::Member("devices"))?;
        let TokenBody { issuer, subject, expires_at, .. } = body;
        Ok(Self { issuer, subject, user, tenant, grant_sequence, expires_at, until, devices })
    }
}

fn tenant(body: &TokenBody) -> Result<Option<TenantName>, TokenError> {
    let Some(value) = body.members.get("tenant") else { return Ok(None) };
    let name = value.as_str().and_then(|text| text.parse().ok());
    name.map(Some).ok_or(TokenError::Member("tenant"))
}

fn devices(value: &Value) -> Option<BTreeMap<DeviceId, DeviceEntry>> {
    let members = value.as_object().filter(|members| members.len() <= DEVICES)?;
    members.iter().map(|(device, entry)| Some((device.parse().ok()?, device_entry(entry)?))).collect()
}

fn device_entry(value: &Value) -> Option<DeviceEntry> {
    let members = value.as_object()?;
    let level = members.get("level")?.as_str()?.parse().ok()?;
    let services = match members.get("services") {
        None => ServiceSet::all(),
        Some(list) => {
            let names = list.as_array()?.iter().map(|name| name.as_str()?.parse::<ServiceName>().ok());
            ServiceSet::only(names.collect::<Option<Vec<_>>>()?)
        }
    };
    Some(DeviceEntry { level, services })
}

/// `aud` of a proxy token.
const AUDIENCE: &str = "tcpmux:proxy";
/// How far the clocks of issuer and proxy may be apart at the beginning of a token. Its end has none:
/// changes of grants are remembered for one token lifetime and not longer.
const LEEWAY: Duration = Duration::from_secs(30);
/// The longest that a stream may live on one token, whatever the token says.
const LONGEST_STREAM: Duration = Duration::from_secs(12 * 3600);
/// For how long a token is not verified again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The most devices that one token may name.
const DEVICES: usize = 50;
const SHARDS: usize = 16;
const SHARD_SIZE: usize = 512;

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
