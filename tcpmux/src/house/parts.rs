//! The rooms, made and joined by the seams.

use std::{future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context;
use ca::{DeploymentDomain, DeviceNaming, FileKeys, Hierarchy, NameSource};
use client_api::{ClientApi, DeviceRemoval, FactoryReset, ReportRates, Retention};
use cloud_gateway::{
    AdminKey, Client, DeviceGuard, Endpoints, Gateway, Guards, ProviderConfig, SignInConfig, TenantRule,
};
use cloud_proxy::{
    Cors, Hosts, Issuer, IssuerKeys, IssuerRule, Proxy, PublishConfig, SignIn, Timeouts, Tokens,
};
use model::{Actor, Code, DeviceRef, DoorKey, NodeId, Refusal, RevocationReason, Secret, Serial, Target};
use prov_server::{Provisioning, RevokeError};
use registry::{Admission, AnyOfThisAuthority, Registry};
use runtime::{
    Clock, Tasks,
    http::Routes,
    jose::{KeyFetcher, KeySource, RemoteKeySet},
    random,
    tls::CertificateCell,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use store::Store;
use tcpmux_server::TunnelServer;

use super::{
    delivery::Delivery, door_certificate, failed, faults::Faults, misconfigured, openapi, outlets, visits,
};
use crate::{
    config::{self, Config, DeviceIdSource, LiveState, Publish, Role},
    data::{DataDirectory, Listening},
    exit::Failure,
};

/// The parts of a cloud that this process plays.
pub(super) struct Parts {
    pub(super) registry: Registry,
    pub(super) store: Option<Store>,
    pub(super) provisioning: Option<Arc<Provisioning>>,
    pub(super) tunnels: Option<Arc<TunnelServer>>,
    pub(super) proxy: Option<Arc<Proxy>>,
    /// What devices' chains must end at.
    pub(super) device_anchors: Vec<CertificateDer<'static>>,
    gateway: Option<Arc<Gateway>>,
    client_api: Option<ClientApi>,
    guards: Guards,
    root_fingerprint: Option<String>,
    public_url: String,
    device_url: String,
    /// The internal CA's certificate for the doors, or the operator's.
    internal: Arc<CertificateCell>,
    /// The operator's certificate for the user door.
    external: Option<Arc<CertificateCell>>,
}

/// What all parts stand on, as the roof has found it.
struct Ground<'a> {
    config: &'a Config,
    data: &'a DataDirectory,
    listening: &'a Listening,
    admin_key: AdminKey,
    node: NodeId,
    external: Option<Arc<CertificateCell>>,
    clock: Clock,
    tasks: Tasks,
}

impl Parts {
    pub(super) async fn start(
        config: &Config,
        data: &DataDirectory,
        listening: &Listening,
        admin_key: Secret<String>,
        clock: Clock,
        tasks: Tasks,
    ) -> Result<Self, Failure> {
        let node = NodeId::from_random(random::bytes());
        let external = config.tls.as_ref().map(|tls| operator_certificate(&tls.certificate, &tls.key));
        let external = external.transpose().map_err(misconfigured)?;
        let admin_key = AdminKey::new(admin_key);
        let ground = Ground { config, data, listening, admin_key, node, external, clock, tasks };
        if config.has(Role::Provision) {
            Self::start_whole(ground).await
        } else {
            Self::start_minimal(ground).await
        }
    }

    /// Everything: the internal CA, the store, every room.
    async fn start_whole(ground: Ground<'_>) -> Result<Self, Failure> {
        let Ground { config, data, listening, admin_key, node, external, clock, tasks } = ground;
        let door_key = DoorKey::cut();
        let faults = Faults::of_environment()?;
        let ca_directory = data.path().join("ca");
        let fresh_domain = DeploymentDomain::from_random(random::bytes());
        let serials = std::array::from_fn(|_| Serial::from_random(WRITER, random::bytes()));
        let hierarchy =
            Hierarchy::create(&ca_directory, &fresh_domain, clock.now(), serials).map_err(failed)?;
        let keys = Arc::new(FileKeys::open(&ca_directory).map_err(failed)?);
        hierarchy.check_keys(&*keys).map_err(failed)?;
        let store = Store::open(&data.path().join("tcpmux.db")).await.map_err(failed)?;
        let epoch = store.next_epoch().await.map_err(failed)?;
        let registry = live_state(config, node, epoch, &tasks).await?;

        let device_url = device_url(config, listening);
        let provisioning = Provisioning::start(
            prov_server::Config {
                device_url: device_url.clone(),
                device_certificate: days(config.ca.device_certificate_days),
                renew_after_expiry: days(config.ca.renew_after_expiry_days),
                writer: WRITER,
                fault_points: faults.issuing,
                ..prov_server::Config::default()
            },
            store.clone(),
            registry.clone(),
            hierarchy.clone(),
            keys,
            clock.clone(),
            tasks.clone(),
        )
        .await
        .map_err(failed)?;
        let names = door_certificate::Names::of(config, listening, &device_url);
        let internal =
            door_certificate::keep(Arc::clone(&provisioning), names, clock.clone(), &tasks).await?;

        let domain = hierarchy.domain().clone();
        let admission: Arc<dyn Admission> = registry.certificates().clone();
        let gateway = Gateway::start(
            cloud_gateway::Config {
                issuer: listening.public_url.clone(),
                providers: config.oidc.iter().map(provider).collect::<Result<_, _>>()?,
                key_file: data.path().join("authorizer.key"),
                admin_key,
                devices: Some(DeviceGuard::new(
                    DeviceNaming::Deployment(domain.clone()),
                    Arc::clone(&admission),
                )),
                device_token: config.device_gateway.token,
                endpoints: Endpoints {
                    version: env!("CARGO_PKG_VERSION").into(),
                    ca_fingerprint: Some(hierarchy.root_fingerprint_text()),
                    user: listening.public_url.clone(),
                    device: device_url.clone(),
                    device_domain: Some(config.device_domain.clone()).filter(|domain| !domain.is_empty()),
                },
            },
            store.clone(),
            registry.clone(),
            clock.clone(),
            &tasks,
            door_key,
        )
        .await
        .map_err(misconfigured)?;
        let tunnels = config.has(Role::Tunnel).then(|| {
            TunnelServer::start(
                tcpmux_server::Config::default(),
                registry.clone(),
                admission,
                DeviceNaming::Deployment(domain),
                clock.clone(),
                tasks.clone(),
            )
        });
        if let Some(tunnels) = &tunnels {
            gateway.push_device_tokens(Arc::new(Delivery(Arc::clone(tunnels) as _)), &tasks);
        }
        let client_api = ClientApi::new(client_api::Parts {
            store: store.clone(),
            registry: registry.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            removal: Arc::new(Removal(Arc::clone(&provisioning))),
            dialer: tunnels.clone().map(|tunnels| tunnels as _),
            outlets: outlets::outlets(config, data, &clock)?,
            report_rates: ReportRates {
                telemetry_per_second: config.device_gateway.telemetry_per_second,
                notifications_per_minute: config.device_gateway.notifications_per_minute,
            },
            factory_reset: match config.claims.factory_reset {
                config::FactoryReset::Owner => FactoryReset::Owner,
                config::FactoryReset::Device => FactoryReset::Device,
            },
            retention: Retention {
                age: days(config.events.days),
                events: config.events.max_rows,
                bytes: config.events.max_mib << 20,
            },
            fault_points: faults.intake,
        });
        let issuer = Issuer {
            name: gateway.issuer().to_owned(),
            keys: IssuerKeys::Held(gateway.key_set()),
            rule: IssuerRule::Authorizer,
        };
        let sign_in = visits::sign_in(&gateway, &listening.public_url);
        let proxy = proxy(
            config,
            listening,
            tunnels.as_ref(),
            (vec![issuer], Some(sign_in)),
            &registry,
            &clock,
            &tasks,
        );
        Ok(Self {
            device_anchors: vec![CertificateDer::from(hierarchy.devices().certificate().der().to_vec())],
            guards: gateway.guards().clone(),
            root_fingerprint: Some(hierarchy.root_fingerprint_text()),
            public_url: listening.public_url.clone(),
            device_url,
            registry,
            store: Some(store),
            provisioning: Some(provisioning),
            gateway: Some(gateway),
            client_api: Some(client_api),
            tunnels,
            proxy,
            internal,
            external,
        })
    }

    /// Tunnel and proxy alone: the operator's CA for devices, the operator's signer of tokens.
    async fn start_minimal(ground: Ground<'_>) -> Result<Self, Failure> {
        let Ground { config, data, listening, admin_key, node, external, clock, tasks } = ground;
        let epoch = data.next_epoch().map_err(failed)?;
        let registry = live_state(config, node, epoch, &tasks).await?;
        let door = external.clone().ok_or_else(|| misconfigured(anyhow::anyhow!("tls: is needed")))?;
        let device_ca = config
            .device_ca
            .as_ref()
            .ok_or_else(|| misconfigured(anyhow::anyhow!("device_ca: is needed")))?;
        let device_anchors = certificates(&device_ca.bundle).map_err(misconfigured)?;
        let source = match device_ca.id {
            DeviceIdSource::CommonName => NameSource::CommonName,
            DeviceIdSource::DnsName => NameSource::SanDns,
        };
        let tunnels = TunnelServer::start(
            tcpmux_server::Config::default(),
            registry.clone(),
            Arc::new(AnyOfThisAuthority::new(device_ca.tenant.clone())),
            DeviceNaming::Operator { source, tenant: device_ca.tenant.clone() },
            clock.clone(),
            tasks.clone(),
        );
        let mut issuers = vec![];
        for authorizer in &config.authorizer {
            let fetcher = KeyFetcher::new(authorizer.ca.as_deref()).map_err(misconfigured)?;
            let source = KeySource::Jwks(authorizer.jwks.clone());
            let keys = RemoteKeySet::new(&authorizer.issuer, source, fetcher).map_err(misconfigured)?;
            keys.keep_fresh(&tasks);
            issuers.push(Issuer {
                name: authorizer.issuer.clone(),
                keys: IssuerKeys::Remote(keys),
                rule: IssuerRule::Operator(authorizer.tenant.clone()),
            });
        }
        let tunnels = Some(tunnels);
        let proxy = proxy(config, listening, tunnels.as_ref(), (issuers, None), &registry, &clock, &tasks);
        Ok(Self {
            guards: Guards::new(admin_key, None, clock, DoorKey::cut()),
            registry,
            store: None,
            provisioning: None,
            gateway: None,
            client_api: None,
            root_fingerprint: None,
            public_url: listening.public_url.clone(),
            device_url: device_url(config, listening),
            device_anchors,
            tunnels,
            proxy,
            internal: door,
            external,
        })
    }

    pub(super) fn guards(&self) -> &Guards {
        &self.guards
    }

    pub(super) fn root_fingerprint(&self) -> Option<String> {
        self.root_fingerprint.clone()
    }

    pub(super) fn user_certificate(&self) -> Arc<CertificateCell> {
        Arc::clone(self.external.as_ref().unwrap_or(&self.internal))
    }

    pub(super) fn device_door_certificate(&self) -> Arc<CertificateCell> {
        Arc::clone(&self.internal)
    }

    pub(super) fn admin_certificate(&self) -> Arc<CertificateCell> {
        Arc::clone(&self.internal)
    }

    pub(super) fn user_routes(&self) -> Routes {
        let gateway = self.gateway.as_ref().map(|gateway| gateway.user_routes());
        let api = self.client_api.as_ref().map(ClientApi::user_routes);
        let described = self.client_api.as_ref().map(|_| openapi::routes(&self.openapi()));
        gateway.unwrap_or_default().merge(api.unwrap_or_default()).merge(described.unwrap_or_default())
    }

    pub(super) fn device_routes(&self) -> Routes {
        let provisioning = self.provisioning.as_ref().map(|provisioning| provisioning.device_routes());
        let api = self.client_api.as_ref().map(ClientApi::device_routes);
        provisioning.unwrap_or_default().merge(api.unwrap_or_default())
    }

    pub(super) fn admin_routes(&self) -> Routes {
        let gateway = self.gateway.as_ref().map(|gateway| gateway.admin_routes());
        let provisioning = self.provisioning.as_ref().map(|provisioning| provisioning.admin_routes());
        let api = self.client_api.as_ref().map(ClientApi::admin_routes);
        gateway.unwrap_or_default().merge(provisioning.unwrap_or_default()).merge(api.unwrap_or_default())
    }

    /// What the rooms that are here tell of their operations.
    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let rooms = [
            self.gateway.as_ref().map(|_| cloud_gateway::openapi()),
            self.client_api.as_ref().map(|_| client_api::openapi()),
            self.proxy.as_ref().map(|_| cloud_proxy::openapi()),
        ];
        openapi::document(rooms.into_iter().flatten(), &self.public_url, &self.device_url)
    }

    pub(super) fn publish_config(port: &Publish) -> PublishConfig {
        let device = DeviceRef::new(port.tenant.clone(), port.device.clone());
        PublishConfig { target: Target { device, service: port.service.clone() }, allow: port.allow.clone() }
    }

    /// Leaves the other nodes, and closes what has a file open.
    pub(super) async fn close(&self) {
        self.registry.close().await;
        if let Some(store) = &self.store {
            store.close().await;
        }
    }
}

/// Ending a removed device's certificates is provisioning's work.
struct Removal(Arc<Provisioning>);

impl DeviceRemoval for Removal {
    fn revoke_all<'a>(
        &'a self,
        device: &'a DeviceRef,
        by: &'a Actor,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            match self.0.revoke_device(device, RevocationReason::CessationOfOperation, by).await {
                // A device that never enrolled, or whose certificates ended, has nothing to revoke.
                Ok(_) | Err(RevokeError::NotFound(_)) => Ok(()),
                Err(RevokeError::Store(error)) => {
                    tracing::error!(%device, %error, "the certificates of a device were not revoked");
                    let said = "the store does not answer; nothing was removed, try again";
                    Err(Refusal::new(Code::Unavailable, said).retry_after(5))
                }
            }
        })
    }
}

/// The registry; a shared one that cannot be reached is joined when it can.
async fn live_state(config: &Config, node: NodeId, epoch: u32, tasks: &Tasks) -> Result<Registry, Failure> {
    let LiveState::Redis(address) = &config.registry else { return Ok(Registry::in_process(node, epoch)) };
    let mut address = address.clone();
    if let Some(file) = &config.registry_ca {
        let unusable =
            |error: String| misconfigured(anyhow::anyhow!("registry_ca {}: {error}", file.display()));
        let roots = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        address = address.trusting(&roots).map_err(unusable)?;
    }
    let problem = |error| misconfigured(anyhow::anyhow!("registry {address}: {error}"));
    let (registry, keeping) = Registry::on_redis(&address, node, epoch).map_err(problem)?;
    tasks.spawn(keeping.run());
    registry.settle().await;
    Ok(registry)
}

fn proxy(
    config: &Config,
    listening: &Listening,
    tunnels: Option<&Arc<TunnelServer>>,
    (issuers, sign_in): (Vec<Issuer>, Option<SignIn>),
    registry: &Registry,
    clock: &Clock,
    tasks: &Tasks,
) -> Option<Arc<Proxy>> {
    let tunnels = tunnels.filter(|_| config.has(Role::Proxy))?;
    let public = url::Url::parse(&listening.public_url).ok();
    let settings = cloud_proxy::Config {
        hosts: Hosts {
            cloud: public.and_then(|url| url.host_str().map(str::to_ascii_lowercase)).into_iter().collect(),
            device_domain: Some(config.device_domain.clone()).filter(|domain| !domain.is_empty()),
        },
        cors: Cors::new(config.cors.origins.clone()),
        timeouts: Timeouts::default(),
        sign_in,
    };
    Some(Proxy::new(
        settings,
        Arc::clone(tunnels) as _,
        Arc::new(Tokens::new(issuers)),
        registry.clone(),
        clock.clone(),
        tasks.clone(),
    ))
}

fn provider(oidc: &config::Oidc) -> Result<ProviderConfig, Failure> {
    let member = oidc.tenant_claim.clone().map(TenantRule::Member);
    let fixed = oidc.tenant.clone().unwrap_or_default();
    let secret = oidc.secret().map_err(|error| misconfigured(anyhow::Error::msg(error)))?;
    let public = oidc.client_id.clone().filter(|_| secret.is_none());
    Ok(ProviderConfig {
        issuer: oidc.issuer.clone(),
        audience: oidc.audience.clone(),
        tenant: member.unwrap_or(TenantRule::Fixed(fixed)),
        ca: oidc.ca.clone(),
        sign_in: SignInConfig {
            name: oidc.name.clone().unwrap_or_default(),
            client: oidc.client_id.clone().map(|id| Client { id, secret }),
            cli_client: oidc.cli_client_id.clone().or(public),
            scopes: oidc.scopes.clone(),
        },
    })
}

/// `HOST:PORT` of the device door, as enrolment strings name it.
fn device_url(config: &Config, listening: &Listening) -> String {
    if !config.device_url.is_empty() {
        return config.device_url.clone();
    }
    let public = url::Url::parse(&listening.public_url).ok();
    let host = public.as_ref().and_then(|url| url.host_str()).unwrap_or("localhost").to_owned();
    format!("{host}:{}", listening.device.map_or(7443, |address| address.port()))
}

fn operator_certificate(chain: &Path, key: &Path) -> anyhow::Result<Arc<CertificateCell>> {
    let certificates = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("tls.key {}", key.display()))?;
    CertificateCell::new(certificates, key).with_context(|| format!("tls.certificate {}", chain.display()))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())?.collect();
    let all = all.with_context(|| path.display().to_string())?;
    anyhow::ensure!(!all.is_empty(), "{} holds no certificate", path.display());
    Ok(all)
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// This process's number in serials; one node has one.
const WRITER: u8 = 1;
