//! The local services that this device exposes, fixed when the configuration is read.

use std::{collections::BTreeMap, net::SocketAddr, str::FromStr, sync::Arc};

use model::{NameError, ServiceName};
use tcpmux_proto::{LocalAuthority, LocalHost, ServiceOffer, StreamKind};
use tokio::sync::Semaphore;

use crate::{LocalTarget, parse_ca};

/// Everything that the cloud can reach on this device.
#[derive(Debug, Clone, Default)]
pub struct Services(BTreeMap<ServiceName, Arc<Service>>);

/// One service.
#[derive(Debug)]
pub struct Service {
    /// What the cloud calls it.
    pub name: ServiceName,
    /// What it is on this device.
    pub target: LocalTarget,
    /// What HTTP requests to it name as their `Host`.
    pub host: Option<LocalHost>,
    /// Whether viewers may open WebSockets on it.
    pub viewer_websocket: bool,
    /// Bounds the connections that are being made.
    pub(crate) dialing: Semaphore,
}

/// How a service is written in configuration.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// What the cloud calls it.
    pub name: String,
    /// `http://…`, `https://…`, `tcp://…` or `unix:/…`.
    pub to: String,
    /// Whether viewers may open WebSockets on it.
    pub viewer_websocket: bool,
    /// For `https`: SHA-256 of the certificate that the service must show.
    pub certificate: Option<String>,
    /// `Host` for every HTTP request, instead of the address or the client's host name.
    pub host: Option<String>,
}

/// Why services cannot be exposed as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// `NAME=URL` was expected.
    #[error("service `{0}`: write NAME=URL, as in web=http://127.0.0.1:8080")]
    Form(String),
    /// The name is not one.
    #[error("service `{0}`: {1}")]
    Name(String, NameError),
    /// Two services of one name.
    #[error("service `{0}` is there twice")]
    Twice(ServiceName),
    /// More services than the hello can carry.
    #[error("at most {MOST_SERVICES} services can be exposed")]
    TooMany,
    /// The target is not allowed or cannot be read.
    #[error("service `{name}`: {problem}")]
    Target {
        /// Which service.
        name: ServiceName,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

impl Services {
    /// Checks and fixes the targets. `own_api` is this daemon's own address, which nobody may reach through
    /// the cloud.
    ///
    /// # Errors
    /// If a name or a target cannot be used.
    pub fn new(
        specs: &[ServiceSpec],
        allow_lan: bool,
        own_api: Option<SocketAddr>,
    ) -> Result<Self, ServiceError> {
        let mut services = BTreeMap::new();
        for spec in specs {
            let service = Service::new(spec, allow_lan, own_api)?;
            if let Some(twice) = services.insert(service.name.clone(), Arc::new(service)) {
                return Err(ServiceError::Twice(twice.name.clone()));
            }
        }
        if services.len() > MOST_SERVICES { Err(ServiceError::TooMany) } else { Ok(Self(services)) }
    }

    /// The service of this name.
    pub fn find(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.0.values()
    }

    /// As the hello tells them to the cloud.
    pub(crate) fn offers(&self) -> Vec<ServiceOffer> {
        let offer = |service: &Arc<Service>| ServiceOffer {
            name: service.name.clone(),
            kind: service.target.kind(),
            viewer_websocket: service.viewer_websocket,
            host: service.host.clone(),
        };
        self.iter().map(offer).collect()
    }

    /// Whether any target is this address.
    pub(crate) fn reach(&self, address: SocketAddr) -> bool {
        self.iter().any(|service| service.target.addresses().contains(&address))
    }
}

impl Service {
    fn new(spec: &ServiceSpec, allow_lan: bool, own_api: Option<SocketAddr>) -> Result<Self, ServiceError> {
        let name: ServiceName =
            spec.name.parse().map_err(|error| ServiceError::Name(spec.name.clone(), error))?;
        let bad = |problem: String| ServiceError::Target { name: name.clone(), problem };
        let mut target: LocalTarget = spec.to.parse().map_err(bad)?;
        if let Some(text) = &spec.certificate {
            let LocalTarget::Https { pin, .. } = &mut target else {
                return Err(bad("`certificate` is for https targets".into()));
            };
            *pin = Some(parse_ca(text).map_err(bad)?);
        }
        target.check(allow_lan, own_api).map_err(bad)?;
        let host = match &spec.host {
            Some(_) if target.kind() != StreamKind::Http => {
                return Err(bad("`host` is for http, https and unix targets".into()));
            }
            Some(text) => Some(fixed_host(text).map_err(bad)?),
            None => target.authority().map(|authority| LocalHost { authority, fixed: false }),
        };
        let dialing = Semaphore::new(MOST_DIALING);
        Ok(Self { target, host, viewer_websocket: spec.viewer_websocket, dialing, name })
    }
}

fn fixed_host(text: &str) -> Result<LocalHost, String> {
    let authority: LocalAuthority = text.parse().map_err(|error| format!("`host = \"{text}\"`: {error}"))?;
    Ok(LocalHost { authority, fixed: true })
}

impl FromStr for ServiceSpec {
    type Err = ServiceError;
    /// Reads `NAME=URL`, as on the command line.
    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (name, to) = text.split_once('=').ok_or_else(|| ServiceError::Form(text.into()))?;
        Ok(Self { name: name.into(), to: to.into(), viewer_websocket: false, certificate: None, host: None })
    }
}

/// A hello holds 16 KiB; this many fit, each as long as it can be.
const MOST_SERVICES: usize = 64;
const MOST_DIALING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_to_others_needs_their_certificate() {
        let own = "web=https://127.0.0.1".parse().unwrap();
        assert!(Services::new(&[own], false, None).is_ok());
        let other = "web=https://10.0.0.1".parse().unwrap();
        assert!(Services::new(&[other], true, None).unwrap_err().to_string().contains("certificate"));
        let mut spec: ServiceSpec = "web=https://10.0.0.1".parse().unwrap();
        spec.certificate = Some(format!("sha256:{}", "ab".repeat(32)));
        assert!(Services::new(&[spec.clone()], true, None).is_ok());
        spec.to = "http://10.0.0.1".into();
        assert!(Services::new(&[spec], true, None).unwrap_err().to_string().contains("for https"));
    }

    #[test]
    fn names_are_checked_and_unique() {
        let error = "web".parse::<ServiceSpec>().unwrap_err().to_string();
        assert!(error.contains("web=http://127.0.0.1:8080"), "{error}");
        let spec = |name: &str| format!("{name}=tcp://127.0.0.1:1").parse::<ServiceSpec>().unwrap();
        assert!(matches!(Services::new(&[spec("We_b")], false, None), Err(ServiceError::Name(..))));
        assert!(matches!(Services::new(&[spec("a"), spec("a")], false, None), Err(ServiceError::Twice(_))));
        let many: Vec<_> = (0..65).map(|number| spec(&format!("s{number}"))).collect();
        assert!(Services::new(&many[..64], false, None).is_ok());
        assert_eq!(Services::new(&many, false, None).unwrap_err(), ServiceError::TooMany);
    }

    #[test]
    fn the_hello_of_all_services_fits_a_control_message() {
        let spec = |number: usize| ServiceSpec {
            viewer_websocket: true,
            host: Some("h".repeat(100)),
            ..format!("{}{number:02}=http://127.0.0.1:1", "n".repeat(30)).parse().unwrap()
        };
        let services = Services::new(&(0..64).map(spec).collect::<Vec<_>>(), false, None).unwrap();
        let text = serde_json::to_vec(&services.offers()).unwrap();
        // What else is in a hello takes a few hundred bytes.
        assert!(text.len() + 1024 < tcpmux_proto::control::MAX_MESSAGE, "{}", text.len());
    }

    #[test]
    fn a_service_is_called_what_it_listens_on_unless_its_owner_says_otherwise() {
        let host = |to: &str, set: Option<&str>| {
            let mut spec: ServiceSpec = format!("web={to}").parse().unwrap();
            spec.host = set.map(str::to_owned);
            let services = Services::new(&[spec], false, None).map_err(|error| error.to_string())?;
            Ok(services.offers()[0].host.as_ref().map(|host| (host.authority.to_string(), host.fixed)))
        };
        let named = |authority: &str, fixed| Ok::<_, String>(Some((authority.to_owned(), fixed)));
        assert_eq!(host("http://127.0.0.1:8080", None), named("127.0.0.1:8080", false));
        assert_eq!(host("https://[::1]:8443", None), named("[::1]:8443", false));
        assert_eq!(host("http://localhost:3000", None), named("localhost:3000", false));
        assert_eq!(host("http://127.0.0.1", None), named("127.0.0.1", false));
        assert_eq!(host("http://127.0.0.1:443", None), named("127.0.0.1:443", false));
        assert_eq!(host("https://127.0.0.1:443", None), named("127.0.0.1", false));
        assert_eq!(host("unix:/run/app.sock", None), Ok(None));
        assert_eq!(host("tcp://127.0.0.1:22", None), Ok(None));
        for to in ["http://127.0.0.1:8080", "https://127.0.0.1", "unix:/run/app.sock"] {
            assert_eq!(host(to, Some("shop.example")), named("shop.example", true), "{to}");
        }
        assert!(host("tcp://127.0.0.1:22", Some("shop.example")).unwrap_err().contains("for http"));
        let error = host("http://127.0.0.1", Some("http://shop.example")).unwrap_err();
        assert!(error.contains("host = \"http://shop.example\"") && error.contains("[::1]:8080"), "{error}");
    }
}
