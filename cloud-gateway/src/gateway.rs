//! The room's parts, put together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use model::{DoorKey, Refusal};
use registry::{GrantChange, Registry};
use runtime::{Clock, Tasks, http::Routes, jose::KeySet};
use store::{Store, StoreError};

use crate::{
    AdminKey, DeviceGuard, Endpoints, Guards, KeyFileError, ProviderConfig, ProviderError, TenantRule,
    authorizer::{Authorizer, LONGEST_LIFETIME},
    device_tokens::DeviceTokens,
    key_file,
    logins::Logins,
    oidc::Providers,
    pushing::{Pusher, TokenDelivery},
    sign_in::{Handovers, SignIn, Welcome},
    subscribers::Subscribers,
    ticket_routes, token_routes,
    users::Users,
    well_known,
};

/// What the gateway needs to know.
#[derive(Debug)]
pub struct Config {
    /// `iss` of the proxy tokens minted here: the public URL.
    pub issuer: String,
    /// The sign-in providers. None means that people cannot sign in; operators can still mint tokens.
    pub providers: Vec<ProviderConfig>,
    /// `DATA/authorizer.key`; made at the first start.
    pub key_file: PathBuf,
    /// The operator's key.
    pub admin_key: AdminKey,
    /// How devices prove themselves over HTTP.
    pub devices: Option<DeviceGuard>,
    /// How long a device token is good.
    pub device_token: Duration,
    /// What `/.well-known/tcpmux` tells.
    pub endpoints: Endpoints,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The authorizer's key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A provider's configuration.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The changes of grants could not be read.
    #[error("cannot read the latest changes of grants: {0}")]
    Store(#[from] StoreError),
}

/// Sign-in, guards and the authorizer.
#[derive(Debug)]
pub struct Gateway {
    guards: Guards,
    authorizer: Arc<Authorizer>,
    device_tokens: Arc<DeviceTokens>,
    endpoints: Endpoints,
    sign_in: Arc<SignIn>,
    handovers: Arc<Handovers>,
    logins: Arc<Logins>,
    command_line: serde_json::Value,
    store: Store,
    registry: Registry,
    clock: Clock,
}

impl Gateway {
    /// Starts the room. When it returns, the registry knows every change of grants that a living token could be
    /// older than, so that the user door may open.
    ///
    /// # Errors
    /// [`StartError`]. A provider that is down is none: its tokens get 503 until its keys are known.
    pub async fn start(
        config: Config,
        store: Store,
        registry: Registry,
        clock: Clock,
        tasks: &Tasks,
        door_key: DoorKey,
    ) -> Result<Arc<Self>, StartError> {
        let keys = key_file::load_or_create(&config.key_file)?;
        let authorizer = Authorizer::new(config.issuer.clone(), keys, store.clone(), clock.clone());
        let authorizer = Arc::new(authorizer.expect("a key file that was read has a key"));
        warn_of_missing_tenants(&config.providers, &store).await?;
        let providers = Providers::start(config.providers, &config.issuer, clock.clone(), tasks)?;
        load_grant_changes(&store, &registry, &clock).await?;
        tasks.spawn(forget_old_changes(store.clone(), registry.clone(), clock.clone()));
        let command_line = well_known::for_the_command_line(&providers);
        let users = Arc::new(Users::new(providers, store.clone(), clock.clone(), door_key.clone()));
        let public_url = &config.endpoints.user;
        let logins = Logins::start(
            Arc::clone(&users),
            store.clone(),
            clock.clone(),
            door_key.clone(),
            public_url,
            tasks,
        );
        let handovers = Arc::new(Handovers::new(
            Arc::clone(&logins),
            Arc::clone(&authorizer),
            store.clone(),
            clock.clone(),
            config.endpoints.device_domain.as_deref(),
            public_url,
        ));
        let sign_in = SignIn::new(
            Arc::clone(&users),
            Arc::clone(&logins),
            Arc::clone(&handovers),
            public_url,
            clock.clone(),
        );
        let device_tokens = Arc::new(DeviceTokens::new(
            Arc::clone(&authorizer),
            registry.clone(),
            clock.clone(),
            config.device_token,
            &config.endpoints.device,
        ));
        let devices = config.devices.map(|guard| guard.with_tokens(Arc::clone(&device_tokens)));
        let people = (users, Arc::clone(&logins));
        let subscribers = Subscribers::new(&authorizer, registry.clone(), clock.clone(), door_key.clone());
        let guards =
            Guards::with_users(config.admin_key, people, subscribers, devices, clock.clone(), door_key);
        let endpoints = config.endpoints;
        Ok(Arc::new(Self {
            guards,
            authorizer,
            device_tokens,
            endpoints,
            sign_in,
            handovers,
            logins,
            command_line,
            store,
            registry,
            clock,
        }))
    }

    /// A browser shows a code at a device's host; what it may hold there. `None` for a code that is not good there.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn redeem_handover(
        &self,
        code: &str,
        label: &str,
        binding: &str,
    ) -> Result<Option<Welcome>, Refusal> {
        self.handovers.redeem(code, label, binding).await
    }

    /// A proxy token for a visit at a device's host. `None` for a visit that is over, or of another host.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn visit_token(&self, visit: &str, label: &str) -> Result<Option<String>, Refusal> {
        self.handovers.token(visit, label).await
    }

    /// Whether a visit at a device's host goes on, for what was opened with it.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn visit_goes_on(&self, visit: &str, label: &str) -> Result<bool, Refusal> {
        self.handovers.goes_on(visit, label).await
    }

    /// Grows whenever a login ends before its time: what is remembered of visits is to be asked again.
    pub fn logins_ended(&self) -> u64 {
        self.logins.ended()
    }

    /// The public keys of proxy tokens, for the proxy.
    pub fn key_set(&self) -> Arc<KeySet> {
        Arc::clone(self.authorizer.keys())
    }

    /// `iss` of proxy tokens, for the proxy.
    pub fn issuer(&self) -> &str {
        self.authorizer.issuer()
    }

    /// From now on devices that connect to this node get a token, and a new one before it ends.
    pub fn push_device_tokens(&self, delivery: Arc<dyn TokenDelivery>, tasks: &Tasks) {
        let (tokens, registry, tasks) =
            (Arc::clone(&self.device_tokens), self.registry.clone(), tasks.clone());
        let events = registry.subscribe();
        let pusher = Arc::new(Pusher { tokens, delivery, registry, tasks: tasks.clone() });
        tasks.spawn(pusher.run(events));
    }

    /// The guards, to mount other rooms' routes with.
    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// As [`Guards::mount`].
    pub fn mount(&self, routes: Routes) -> Router {
        self.guards.mount(routes)
    }

    /// `POST /v1/token`, `POST /v1/tickets`, `GET /.well-known/jwks.json`, `GET /.well-known/tcpmux`, and signing in with a browser.
    pub fn user_routes(&self) -> Routes {
        token_routes::user_routes(&self.authorizer)
            .merge(ticket_routes::user_routes(&self.store, &self.registry, &self.clock))
            .merge(well_known::routes(&self.authorizer, &self.endpoints, &self.command_line))
            .merge(self.sign_in.routes())
    }

    /// `POST /admin/api/tokens`.
    pub fn admin_routes(&self) -> Routes {
        token_routes::admin_routes(&self.authorizer, &self.store, &self.clock)
    }
}

/// A provider's tenant may be made later, and only while the cloud runs: until then its people are refused.
async fn warn_of_missing_tenants(providers: &[ProviderConfig], store: &Store) -> Result<(), StoreError> {
    for provider in providers {
        if let TenantRule::Fixed(tenant) = &provider.tenant
            && !store.tenant_exists(tenant).await?
        {
            let issuer = &provider.issuer;
            tracing::warn!(
                issuer,
                %tenant,
                "people of this [[oidc]] issuer are refused: there is no such tenant; make it with `tcpmux tenant new {tenant}`"
            );
        }
    }
    Ok(())
}

async fn load_grant_changes(store: &Store, registry: &Registry, clock: &Clock) -> Result<(), StoreError> {
    // Changes first: a sequence number says that those up to it are known.
    for change in store.grant_changes_since(clock.now().minus(REMEMBERED)).await? {
        registry.grants().load(GrantChange {
            tenant: change.tenant,
            user: change.user,
            device: change.device,
            sequence: change.sequence,
            at: change.at,
        });
    }
    for (tenant, sequence) in store.grant_sequences().await? {
        registry.grants().raise(&tenant, sequence);
    }
    for (tenant, first) in store.first_sequences().await? {
        registry.grants().begin(&tenant, first);
    }
    Ok(())
}

/// A change that every living token is younger than need not be remembered.
async fn forget_old_changes(store: Store, registry: Registry, clock: Clock) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let before = clock.now().minus(REMEMBERED);
        registry.grants().forget_before(before);
        if let Err(error) = store.forget_grant_changes(before).await {
            tracing::warn!(%error, "cannot forget old changes of grants");
        }
    }
}

/// The longest token, and what clocks may differ by.
const REMEMBERED: Duration = Duration::from_secs(LONGEST_LIFETIME.as_secs() + 120);
const FORGET_EVERY: Duration = Duration::from_secs(300);

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
