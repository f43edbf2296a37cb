//! The settings, typed. Building a `Config` is the only check: one that exists is right.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use model::{DeviceId, Secret, ServiceName, TenantName};
use registry::RedisAddress;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Claims, DeviceGateway, Events, Fcm, WebhookSettings};

/// Everything that can be set. Every key has a default.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What tokens, links and certificates name; empty: `https://localhost:PORT`.
    pub public_url: String,
    /// What enrolment strings name; empty: the public URL's host and the device door's port.
    pub device_url: String,
    /// Set it to offer `https://{device}.{device_domain}/`.
    pub device_domain: String,
    /// Where facts are kept.
    #[serde(deserialize_with = "store")]
    pub store: Store,
    /// Where live state is shared.
    #[serde(deserialize_with = "registry")]
    pub registry: LiveState,
    /// A PEM file with roots for the certificate of a shared registry; none: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ca: Option<PathBuf>,
    /// What this process does.
    pub roles: Vec<Role>,
    /// The doors' addresses.
    pub listen: Listen,
    /// The user door's certificate, if it is not to come from the internal CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Identity providers.
    #[serde(default)]
    pub oidc: Vec<Oidc>,
    /// Signers of proxy tokens, in the minimal deployment.
    #[serde(default)]
    pub authorizer: Vec<Authorizer>,
    /// The operator's own CA for devices, in the minimal deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ca: Option<DeviceCa>,
    /// Browser apps of other origins.
    pub cors: Cors,
    /// Raw TCP ports.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// The internal CA.
    pub ca: CaSettings,
    /// Which addresses webhooks may lead to.
    pub webhooks: WebhookSettings,
    /// The account that sends push messages by Firebase Cloud Messaging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcm: Option<Fcm>,
    /// What devices report.
    pub device_gateway: DeviceGateway,
    /// How devices come to owners and lose them.
    pub claims: Claims,
    /// The event log.
    pub events: Events,
    /// How a process leaves.
    pub drain: Drain,
}

/// Where facts are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A file in the data directory.
    Sqlite,
}

/// Where live state is shared. It prints without a password.
#[derive(Debug, Clone)]
pub enum LiveState {
    /// In this process alone.
    Memory,
    /// With the other nodes, on a Redis server.
    Redis(RedisAddress),
}

impl Serialize for LiveState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Memory => serializer.serialize_str("memory"),
            Self::Redis(address) => serializer.collect_str(address),
        }
    }
}

/// A part of the cloud that a process can play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds device sessions.
    Tunnel,
    /// Serves clients' requests to devices.
    Proxy,
    /// Issues certificates.
    Provision,
    /// Signs people in, mints tokens, keeps ownership.
    Gateway,
}

/// The doors' addresses; port 0 takes any free one.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// People's apps and browsers.
    pub user: SocketAddr,
    /// Devices.
    pub device: SocketAddr,
    /// Operators.
    pub admin: SocketAddr,
    /// Other nodes; empty: off.
    #[serde(default, deserialize_with = "peer")]
    pub peer: String,
}

/// Certificate and key of the user door, as PEM files.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
}

/// An OpenID Connect provider whose tokens are accepted.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The issuer, exactly as in its tokens; https, or http on loopback.
    pub issuer: String,
    /// The audience that its tokens must have.
    pub audience: String,
    /// The tenant of its users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Or the claim that names the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_claim: Option<String>,
    /// A PEM file with roots for the provider's own certificate; none: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The provider's name in our addresses, as in `/login/{name}`; none: the issuer's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The client that signs people in with a browser; none: nobody is sent to this provider from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret; a public client has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretText>,
    /// Or a file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// The public client of `tcpmux login`; none: `client_id`, if that has no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cli_client_id: Option<String>,
    /// What is asked for at a sign-in.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
}

impl Oidc {
    /// The client's secret, from wherever it is.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn secret(&self) -> Result<Option<Secret<String>>, String> {
        match (&self.client_secret, &self.client_secret_file) {
            (Some(secret), _) => Ok(Some(secret.0.clone())),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map(Secret::new);
                let text =
                    text.map_err(|error| format!("oidc client_secret_file {}: {error}", path.display()))?;
                Ok(Some(Secret::new(text.expose().trim_end().to_owned())))
            }
            (None, None) => Ok(None),
        }
    }

    fn check(&self) -> Result<(), String> {
        let issuer = &self.issuer;
        if self.tenant.is_some() == self.tenant_claim.is_some() {
            return Err(format!("oidc {issuer}: set either tenant or tenant_claim"));
        }
        address(issuer).map_err(|error| format!("oidc issuer {issuer}: {error}"))?;
        let has_secret = self.client_secret.is_some() || self.client_secret_file.is_some();
        if self.client_secret.is_some() && self.client_secret_file.is_some() {
            return Err(format!("oidc {issuer}: set either client_secret or client_secret_file"));
        }
        if has_secret && self.client_id.is_none() {
            return Err(format!("oidc {issuer}: client_secret needs its client_id"));
        }
        let is_scope =
            |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.scopes.iter().all(is_scope) || !self.scopes.iter().any(|scope| scope == "openid") {
            return Err(format!("oidc {issuer}: scopes are words, and `openid` is one of them"));
        }
        Ok(())
    }
}

/// A secret in a configuration: it is read, and never shown again.
#[derive(Debug, Clone)]
pub struct SecretText(Secret<String>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// The operator's own signer of proxy tokens.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Authorizer {
    /// The issuer, exactly as in its tokens.
    pub issuer: String,
    /// Where its keys are.
    pub jwks: String,
    /// The tenant that it may sign for.
    #[serde(default)]
    pub tenant: TenantName,
    /// A PEM file with roots for its own certificate; none: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// The operator's own CA for devices.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceCa {
    /// A PEM file with its certificates.
    pub bundle: PathBuf,
    /// Where in a certificate the device's id stands.
    pub id: DeviceIdSource,
    /// The tenant of its devices.
    #[serde(default)]
    pub tenant: TenantName,
}

/// Where in a certificate of the operator's CA the device's id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum DeviceIdSource {
    /// The subject's common name.
    #[serde(rename = "cn")]
    CommonName,
    /// The only dNSName of the subject alternative name.
    #[serde(rename = "san-dns")]
    DnsName,
}

/// Which browser apps may call from other origins.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://app.example.com`.
    pub origins: Vec<String>,
}

/// A raw TCP port that leads to one service of one device.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The device.
    pub device: DeviceId,
    /// Its service.
    pub service: ServiceName,
    /// Its tenant.
    #[serde(default)]
    pub tenant: TenantName,
    /// Networks that may connect; none: loopback alone.
    #[serde(default)]
    pub allow: Vec<ipnet::IpNet>,
}

/// The internal CA.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaSettings {
    /// How long a device certificate lives.
    pub device_certificate_days: u32,
    /// How long after its end a certificate still renews itself.
    pub renew_after_expiry_days: u32,
}

/// How a process leaves.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// How long live requests may take to finish.
    #[serde(deserialize_with = "duration", serialize_with = "duration_text")]
    pub grace: Duration,
}

impl Config {
    /// Whether this process plays a part.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Looks at what no single key can tell.
    ///
    /// # Errors
    /// A sentence that names the keys and the remedy.
    pub fn check(&self) -> Result<(), String> {
        if self.roles.is_empty() {
            return Err("roles: name at least one of tunnel, proxy, provision, gateway".into());
        }
        if self.has(Role::Proxy) && !self.has(Role::Tunnel) {
            return Err(
                "roles: proxy without tunnel needs a peer door, which is not there yet; use both".into()
            );
        }
        if self.has(Role::Gateway) != self.has(Role::Provision) {
            return Err(
                "roles: provision and gateway share one store and run together; name both or neither".into(),
            );
        }
        let is_minimal = !self.has(Role::Provision);
        if is_minimal {
            if self.has(Role::Tunnel) && self.device_ca.is_none() {
                return Err(
                    "device_ca: without the role provision, say whose devices to admit ([device_ca] bundle, id)".into()
                );
            }
            if self.has(Role::Proxy) && self.authorizer.is_empty() {
                return Err(
                    "authorizer: without the role gateway, say whose tokens to accept ([[authorizer]] issuer, jwks)"
                        .into(),
                );
            }
            if self.tls.is_none() {
                return Err("tls: without the role provision the doors' certificate comes from [tls]".into());
            }
        } else if self.device_ca.is_some() {
            return Err(
                "device_ca: is for roles = [\"tunnel\", \"proxy\"]; with provision the internal CA is used"
                    .into(),
            );
        } else if !self.authorizer.is_empty() {
            return Err(
                "authorizer: is for roles = [\"tunnel\", \"proxy\"]; with gateway the internal one is used"
                    .into(),
            );
        }
        for provider in &self.oidc {
            provider.check()?;
        }
        for authorizer in &self.authorizer {
            address(&authorizer.jwks)
                .map_err(|error| format!("authorizer jwks {}: {error}", authorizer.jwks))?;
        }
        if let Some(fcm) = &self.fcm {
            address(&fcm.url).map_err(|error| format!("fcm url {}: {error}", fcm.url))?;
        }
        if !self.public_url.is_empty() {
            let url = url::Url::parse(&self.public_url).map_err(|error| format!("public_url: {error}"))?;
            if url.scheme() != "https"
                || url.host_str().is_none()
                || url.path() != "/"
                || url.query().is_some()
            {
                return Err("public_url: write https://HOST or https://HOST:PORT, without a path".into());
            }
        }
        if !self.device_url.is_empty() && split_host_port(&self.device_url).is_none() {
            return Err("device_url: write HOST:PORT, as in cloud.example.com:7443".into());
        }
        let domain = &self.device_domain;
        if !domain.is_empty() && domain.split('.').any(|label| label.parse::<DeviceId>().is_err()) {
            return Err("device_domain: write a domain name in lower case, as in devices.example.com".into());
        }
        for origin in &self.cors.origins {
            let url = url::Url::parse(origin).map_err(|error| format!("cors.origins {origin}: {error}"))?;
            if url.origin().ascii_serialization() != *origin {
                return Err(format!("cors.origins {origin}: write scheme://host[:port] and nothing more"));
            }
        }
        if !(1..=825).contains(&self.ca.device_certificate_days) {
            return Err("ca.device_certificate_days: between 1 and 825".into());
        }
        self.events.check()?;
        self.device_gateway.check()
    }
}

/// Splits `HOST:PORT`, where an IPv6 host stands in brackets.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty() && !host.contains('/')).then_some(())?;
    Some((host, port.parse().ok()?))
}

fn address(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match url.scheme() {
        "https" => Ok(()),
        "http" if runtime::http::is_loopback(host) => Ok(()),
        _ => Err("has to be https, or http on a loopback address".into()),
    }
}

fn usual_scopes() -> Vec<String> {
    ["openid", "email"].map(str::to_owned).into()
}

fn store<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Store, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "sqlite" => Ok(Store::Sqlite),
        _ => Err(serde::de::Error::custom("this version keeps facts in `sqlite` only")),
    }
}

fn registry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LiveState, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "memory" {
        return Ok(LiveState::Memory);
    }
    // The text is not repeated: it may hold a password.
    text.parse().map(LiveState::Redis).map_err(|said: String| {
        serde::de::Error::custom(format!("registry: `memory` keeps it in this process; else {said}"))
    })
}

fn peer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(text);
    }
    Err(serde::de::Error::custom("this version runs on one node and has no peer door; leave it empty"))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    model::parse_duration(&text).map_err(serde::de::Error::custom)
}

pub(super) fn duration_text<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{}ms", duration.as_millis()))
}
