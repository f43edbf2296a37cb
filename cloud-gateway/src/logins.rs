//! Logins: from the cookie of a signed-in browser to a proven user.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method};
use model::{Actor, DoorKey, Refusal, UserActor};
use runtime::{Clock, Tasks, jose::TokenError};
use store::{LoginRow, NewLogin, Store};

use crate::{
    sign_in::{BrowserKey, LOGIN_COOKIE, read_cookie, require_same_origin},
    users::Users,
};

/// The logins of this cloud. A login is over at its end, when nobody used it for a while, when its person signed
/// out, and when its provider is not believed any more.
#[derive(Debug)]
pub(crate) struct Logins {
    users: Arc<Users>,
    store: Store,
    clock: Clock,
    door_key: DoorKey,
    /// The cloud's own origin, as browsers name it.
    origin: String,
    ended: AtomicU64,
}

impl Logins {
    pub(crate) fn start(
        users: Arc<Users>,
        store: Store,
        clock: Clock,
        door_key: DoorKey,
        public_url: &str,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let origin = url::Url::parse(public_url).map(|url| url.origin().ascii_serialization());
        let origin = origin.unwrap_or_else(|_| public_url.to_owned());
        let ended = AtomicU64::new(0);
        let logins = Arc::new(Self { users, store, clock, door_key, origin, ended });
        tasks.spawn(Arc::clone(&logins).forget_ended());
        logins
    }

    /// The cloud's own origin.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The user whose browser sent this request with its cookie.
    pub(crate) async fn prove(&self, method: &Method, headers: &HeaderMap) -> Result<UserActor, Refusal> {
        let key = read_cookie(headers, LOGIN_COOKIE).ok_or(TokenError::Missing)?;
        require_same_origin(method, headers, &self.origin)?;
        let (_, user) = self.of_key(&key).await?.ok_or(TokenError::Missing)?;
        Ok(user)
    }

    /// The login that a browser shows, if it is one and still goes on.
    pub(crate) async fn of_key(&self, key: &BrowserKey) -> Result<Option<(LoginRow, UserActor)>, Refusal> {
        let login = self.store.login(key.digest()).await;
        let Some(login) = login.map_err(|error| error.refusal("finding a login"))? else { return Ok(None) };
        let Some(user) = self.user(&login) else { return Ok(None) };
        self.see(&login).await;
        Ok(Some((login, user)))
    }

    /// The user of a login that still goes on.
    pub(crate) fn user(&self, login: &LoginRow) -> Option<UserActor> {
        let now = self.clock.now();
        let goes_on = now < login.expires_at && now < login.seen_at.plus(IDLE);
        let is_believed = self.users.providers().of_issuer(&login.issuer).is_some();
        (goes_on && is_believed).then(|| {
            let LoginRow { user, tenant, issuer, subject, email, .. } = login.clone();
            UserActor::new(&self.door_key, user, tenant, issuer, subject, email)
        })
    }

    /// Notes that a login is used, now and then.
    pub(crate) async fn see(&self, login: &LoginRow) {
        let now = self.clock.now();
        if now >= login.seen_at.plus(SEEN_EVERY)
            && let Err(error) = self.store.see_login(login.digest, now).await
        {
            tracing::debug!(%error, "the use of a login is not noted");
        }
    }

    /// Begins a login; the key is for the browser's cookie.
    pub(crate) async fn begin(&self, user: &UserActor) -> Result<BrowserKey, Refusal> {
        let (key, now) = (BrowserKey::fresh(), self.clock.now());
        let login = NewLogin {
            digest: key.digest(),
            tenant: user.tenant().clone(),
            user: user.user().clone(),
            expires_at: now.plus(LIFE),
        };
        let begun = self.store.begin_login(login, OF_A_USER, &Actor::User(user.clone()), now).await;
        begun.map_err(|error| error.refusal("beginning a login"))?;
        Ok(key)
    }

    /// Ends a login, and with it whatever its browser holds at devices' hosts.
    pub(crate) async fn end(&self, key: &BrowserKey) -> Result<(), Refusal> {
        let Some((_, user)) = self.of_key(key).await? else { return Ok(()) };
        let ended = self.store.end_login(key.digest(), &Actor::User(user), self.clock.now()).await;
        ended.map_err(|error| error.refusal("ending a login"))?;
        self.ended.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Grows whenever a login ends before its time here.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    async fn forget_ended(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            match self.store.forget_ended_logins(IDLE, self.clock.now()).await {
                Ok(0) => {}
                Ok(count) => tracing::debug!(count, "forgot logins that are over"),
                Err(error) => tracing::warn!(%error, "cannot forget logins that are over"),
            }
        }
    }
}

/// As long as a stream may live at most.
pub(crate) const LIFE: Duration = Duration::from_secs(12 * 3600);
const IDLE: Duration = Duration::from_secs(2 * 3600);
const SEEN_EVERY: Duration = Duration::from_secs(300);
const OF_A_USER: u32 = 20;
const FORGET_EVERY: Duration = Duration::from_secs(900);
