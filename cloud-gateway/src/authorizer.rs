//! Minting proxy tokens: what a person may reach at this moment, signed for a few minutes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{DeviceId, DeviceRef, Grant, Level, ServiceSet, TenantName, Timestamp, UserActor};
use runtime::{
    Clock,
    jose::{KeySet, SigningError, SigningKey},
};
use serde::Serialize;
use serde_json::{Value, json};
use store::{Store, StoreError};

/// `aud` of every proxy token.
pub const AUDIENCE: &str = "tcpmux:proxy";

/// The signer of proxy tokens.
#[derive(Debug)]
pub(crate) struct Authorizer {
    issuer: String,
    signing: SigningKey,
    jwks: Value,
    keys: Arc<KeySet>,
    store: Store,
    clock: Clock,
}

/// A signed token.
#[derive(Debug)]
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) id: String,
    pub(crate) expires_at: Timestamp,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The body of a proxy token.
#[derive(Debug, Serialize)]
struct Body<'a> {
    iss: &'a str,
    aud: &'static str,
    sub: &'a str,
    tenant: &'a TenantName,
    gv: u64,
    until: i64,
    iat: i64,
    exp: i64,
    jti: &'a str,
    devices: BTreeMap<&'a DeviceId, Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    level: Level,
    #[serde(skip_serializing_if = "ServiceSet::is_all")]
    services: &'a ServiceSet,
}

impl Authorizer {
    /// Signs with the first key; all of them are published.
    pub(crate) fn new(issuer: String, keys: Vec<SigningKey>, store: Store, clock: Clock) -> Option<Self> {
        let jwks = json!({"keys": keys.iter().map(SigningKey::public_jwk).collect::<Vec<_>>()});
        let verifying = keys.iter().map(SigningKey::verifying_key).collect();
        let signing = keys.into_iter().next()?;
        Some(Self { issuer, signing, jwks, keys: Arc::new(KeySet::new(verifying)), store, clock })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    pub(crate) fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Signs the body of a token of another kind with the same key.
    pub(crate) fn sign(&self, typ: &str, body: &impl Serialize) -> Result<String, SigningError> {
        self.signing.sign(typ, body)
    }

    /// A token for what this person may reach now, or for one device of it. No grant, no entry; never an error.
    pub(crate) async fn for_user(
        &self,
        user: &UserActor,
        device: Option<DeviceId>,
    ) -> Result<Minted, MintError> {
        self.for_login(user, device, self.clock.now().plus(LONGEST_STREAM)).await
    }

    /// The same, and nothing opened with it lives past `latest`.
    pub(crate) async fn for_login(
        &self,
        user: &UserActor,
        device: Option<DeviceId>,
        latest: Timestamp,
    ) -> Result<Minted, MintError> {
        // Read before the grants: a change that falls in between makes the token stale, never too strong.
        let sequence = self.store.grant_sequence(user.tenant()).await?;
        let grants = match device {
            Some(device) => {
                let grant = self.store.grant_of(user.tenant(), user.user(), &device).await?;
                grant.map(|grant| (device, grant)).into_iter().collect()
            }
            None => self.store.grants_of_user(user.tenant(), user.user()).await?,
        };
        let now = self.clock.now();
        // A grant of less than a second to go is none: times in tokens are whole seconds.
        let live = |grant: &Grant| grant.until.is_none_or(|until| until.secs() > now.secs());
        let mut grants: Vec<(DeviceId, Grant)> =
            grants.into_iter().filter(|(_, grant)| live(grant)).collect();
        keep_what_fits(&mut grants);
        self.mint(user.user().as_str(), user.tenant(), sequence, &grants, now, (USER_LIFETIME, latest))
    }

    /// A token for one device without a provider, for an operator.
    pub(crate) async fn for_operator(
        &self,
        device: &DeviceRef,
        level: Level,
        lifetime: Duration,
    ) -> Result<Minted, MintError> {
        let sequence = self.store.grant_sequence(&device.tenant).await?;
        let grant = Grant { level, services: ServiceSet::all(), until: None };
        let grants = [(device.device.clone(), grant)];
        let (lifetime, now) = (lifetime.min(LONGEST_LIFETIME), self.clock.now());
        let latest = now.plus(LONGEST_STREAM);
        self.mint(OPERATOR, &device.tenant, sequence, &grants, now, (lifetime, latest))
    }

    fn mint(
        &self,
        subject: &str,
        tenant: &TenantName,
        sequence: u64,
        grants: &[(DeviceId, Grant)],
        now: Timestamp,
        (lifetime, latest): (Duration, Timestamp),
    ) -> Result<Minted, MintError> {
        let ends = grants.iter().filter_map(|(_, grant)| grant.until);
        let until = ends.fold(latest.min(now.plus(LONGEST_STREAM)), Timestamp::min);
        let expires_at = Timestamp::from_secs(now.plus(lifetime).min(until).secs());
        let id = model::hex(&runtime::random::bytes::<16>());
        let body = Body {
            iss: &self.issuer,
            aud: AUDIENCE,
            sub: subject,
            tenant,
            gv: sequence,
            until: until.secs(),
            iat: now.secs(),
            exp: expires_at.secs(),
            jti: &id,
            devices: grants
                .iter()
                .map(|(device, grant)| (device, Entry { level: grant.level, services: &grant.services }))
                .collect(),
        };
        let token = self.signing.sign("at+jwt", &body)?;
        Ok(Minted { token, id, expires_at })
    }
}

/// At most [`DEVICES`], and no more than a token may be long. Whoever reaches more asks for one device.
fn keep_what_fits(grants: &mut Vec<(DeviceId, Grant)>) {
    let mut room = DEVICES_BYTES;
    let mut fitting = 0;
    for (device, grant) in grants.iter().take(DEVICES) {
        let services: usize = grant
            .services
            .names()
            .map_or(0, |names| 16 + names.map(|name| name.as_str().len() + 3).sum::<usize>());
        let size = device.as_str().len() + ENTRY_BYTES + services;
        if size > room {
            break;
        }
        room -= size;
        fitting += 1;
    }
    grants.truncate(fitting);
}

/// `sub` of tokens that operators asked for.
const OPERATOR: &str = "admin";
const USER_LIFETIME: Duration = Duration::from_secs(300);
/// The longest that any proxy token lives: only operators get it, and only when they ask. Changes of grants are
/// remembered for this long.
pub(crate) const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);
const LONGEST_STREAM: Duration = Duration::from_secs(12 * 3600);
const DEVICES: usize = 50;
/// `"":{"level":"operator"},`
const ENTRY_BYTES: usize = 24;
/// With base64 and the other members this stays below the 8 KiB that a proxy reads.
const DEVICES_BYTES: usize = 5 * 1024;
