//! The local services that this device exposes, fixed when the configuration is read.
//!
//! A target is an address, never a name to be resolved later: what a stream can reach is decided here,
//! once, by the owner of the device.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use model::{Fingerprint, NameError, ServiceName};
use rustls_pki_types::ServerName;
use tcpmux_proto::{ServiceOffer, StreamKind};
use tokio::sync::Semaphore;

use crate::parse_ca;

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
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTarget {
    /// Plain HTTP.
    Http(Vec<SocketAddr>),
    /// HTTP over TLS; certificates of loopback services are seldom anybody's business.
    Https {
        /// Where.
        addresses: Vec<SocketAddr>,
        /// What to name in the handshake.
        name: ServerName<'static>,
        /// The certificate that it must show.
        pin: Option<Fingerprint>,
    },
    /// Any bytes.
    Tcp(Vec<SocketAddr>),
    /// A socket in the file system; any bytes.
    Unix(PathBuf),
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
        let dialing = Semaphore::new(MOST_DIALING);
        Ok(Self { target, viewer_websocket: spec.viewer_websocket, dialing, name })
    }
}

impl FromStr for ServiceSpec {
    type Err = ServiceError;
    /// Reads `NAME=URL`, as on the command line.
    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (name, to) = text.split_once('=').ok_or_else(|| ServiceError::Form(text.into()))?;
        Ok(Self { name: name.into(), to: to.into(), viewer_websocket: false, certificate: None })
    }
}

impl LocalTarget {
    /// The word in front of the address.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Https { .. } => "https",
            Self::Tcp(_) => "tcp",
            Self::Unix(_) => "unix",
        }
    }

    /// The addresses, in the order in which they are tried; none for a Unix socket.
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Http(addresses) | Self::Https { addresses, .. } | Self::Tcp(addresses) => addresses,
            Self::Unix(_) => &[],
        }
    }

    fn kind(&self) -> StreamKind {
        match self {
            Self::Http(_) | Self::Https { .. } | Self::Unix(_) => StreamKind::Http,
            Self::Tcp(_) => StreamKind::Tcp,
        }
    }

    fn check(&self, allow_lan: bool, own_api: Option<SocketAddr>) -> Result<(), String> {
        for address in self.addresses() {
            check_address(address.ip(), allow_lan)?;
            let unpinned = matches!(self, Self::Https { pin: None, .. });
            if unpinned && !address.ip().is_loopback() {
                return Err(format!(
                    "https to {address} needs `certificate = \"sha256:…\"`, the fingerprint of its certificate"
                ));
            }
            if own_api == Some(*address) {
                return Err(format!("{address} is this daemon's own API, which is not for the cloud"));
            }
        }
        Ok(())
    }
}

fn check_address(address: IpAddr, allow_lan: bool) -> Result<(), String> {
    let multicast = address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || multicast || METADATA.contains(&address) {
        return Err(format!("{address} cannot be a target"));
    }
    if address.is_loopback() || allow_lan {
        return Ok(());
    }
    Err(format!(
        "{address} is not on this device; set `allow_lan = true` in the configuration if it should be reached"
    ))
}

impl FromStr for LocalTarget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| unknown_scheme(text))?;
        if scheme == "unix" {
            let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
            // sockaddr_un has room for 107 bytes and a zero.
            if !path.is_absolute() || path.as_os_str().len() > 107 {
                return Err(format!(
                    "`{text}`: a socket needs an absolute path of at most 107 bytes, as in unix:/run/app.sock"
                ));
            }
            return Ok(Self::Unix(path));
        }
        let default_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            "tcp" => None,
            _ => return Err(unknown_scheme(text)),
        };
        let authority =
            rest.strip_prefix("//").ok_or_else(|| format!("`{text}`: write {scheme}://ADDRESS:PORT"))?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(format!(
                "`{text}`: a target is scheme, address and port alone; paths come from the caller"
            ));
        }
        let (host, port) = host_and_port(authority, default_port).ok_or_else(|| {
            format!("`{text}`: write {scheme}://ADDRESS:PORT, as in {scheme}://127.0.0.1:8080")
        })?;
        let addresses = addresses(host, port)
            .ok_or_else(|| format!("`{host}`: write the address, or localhost; names are not resolved"))?;
        Ok(match scheme {
            "http" => Self::Http(addresses),
            "https" => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                Self::Https { addresses, name, pin: None }
            }
            _ => Self::Tcp(addresses),
        })
    }
}

fn unknown_scheme(text: &str) -> String {
    format!("`{text}`: write http://, https:// or tcp://ADDRESS:PORT, or unix:/PATH")
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
fn host_and_port(authority: &str, default_port: Option<u16>) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(text) => text.parse().ok().filter(|port| *port != 0)?,
        None => default_port?,
    };
    (!host.is_empty()).then_some((host, port))
}

fn addresses(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Some(both.map(|address| (address, port).into()).to_vec());
    }
    // `::ffff:127.0.0.1` is judged as what it reaches.
    let address: IpAddr = host.parse().ok()?;
    Some(vec![(address.to_canonical(), port).into()])
}

/// What hands out credentials to whoever asks from a cloud machine: never a target, on no configuration.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
/// A hello holds 16 KiB; this many names fit twice.
const MOST_SERVICES: usize = 64;
const MOST_DIALING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, allow_lan: bool) -> Result<LocalTarget, String> {
        let spec = format!("web={text}").parse().unwrap();
        let api = "127.0.0.1:7480".parse().unwrap();
        let services = Services::new(&[spec], allow_lan, Some(api)).map_err(|error| error.to_string())?;
        Ok(services.find(&"web".parse().unwrap()).unwrap().target.clone())
    }

    #[test]
    fn every_scheme_and_its_default_port() {
        let at = |text: &str| vec![text.parse().unwrap()];
        assert_eq!(one("http://127.0.0.1", false), Ok(LocalTarget::Http(at("127.0.0.1:80"))));
        assert_eq!(one("http://[::1]:8080/", false), Ok(LocalTarget::Http(at("[::1]:8080"))));
        assert_eq!(one("tcp://127.0.0.1:22", false), Ok(LocalTarget::Tcp(at("127.0.0.1:22"))));
        assert_eq!(one("unix:/run/app.sock", false), Ok(LocalTarget::Unix("/run/app.sock".into())));
        assert_eq!(one("unix:///run/app.sock", false), Ok(LocalTarget::Unix("/run/app.sock".into())));
        assert_eq!(
            one("https://localhost", false).unwrap().addresses(),
            ["127.0.0.1:443".parse().unwrap(), "[::1]:443".parse().unwrap()]
        );
    }

    #[test]
    fn what_is_not_on_this_device_needs_allow_lan() {
        for lan in
            ["http://192.168.1.7", "tcp://169.254.3.4:80", "http://[fe80::1]", "http://[::ffff:10.0.0.1]"]
        {
            assert!(one(lan, false).unwrap_err().contains("allow_lan"), "{lan}");
            assert!(one(lan, true).is_ok(), "{lan}");
        }
        assert!(one("http://[::ffff:127.0.0.1]", false).is_ok());
    }

    #[test]
    fn some_addresses_are_never_targets() {
        for never in [
            "http://0.0.0.0:80",
            "http://[::]:80",
            "tcp://224.0.0.1:5353",
            "http://255.255.255.255",
            "http://169.254.169.254",
            "http://[::ffff:169.254.169.254]",
            "http://[fd00:ec2::254]",
        ] {
            assert!(one(never, true).unwrap_err().contains("cannot be a target"), "{never}");
        }
        for own in ["http://127.0.0.1:7480", "tcp://localhost:7480", "http://[::ffff:127.0.0.1]:7480"] {
            assert!(one(own, true).unwrap_err().contains("own API"), "{own}");
        }
    }

    #[test]
    fn a_name_is_not_a_target_since_it_could_change_its_address() {
        for name in ["http://printer.local", "tcp://example.com:22", "http://127.1:80", "http://2130706433"] {
            assert!(one(name, true).unwrap_err().contains("not resolved"), "{name}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for bad in [
            "127.0.0.1:80",
            "ftp://127.0.0.1",
            "tcp://127.0.0.1",
            "http:127.0.0.1",
            "http://127.0.0.1:0",
            "http://127.0.0.1:65536",
            "http://127.0.0.1/path",
            "http://user@127.0.0.1",
            "http://",
            "unix:relative.sock",
        ] {
            assert!(one(bad, true).is_err(), "{bad}");
        }
        assert!("web".parse::<ServiceSpec>().unwrap_err().to_string().contains("web=http://127.0.0.1:8080"));
    }

    #[test]
    fn https_to_others_needs_their_certificate() {
        assert!(one("https://127.0.0.1", false).is_ok());
        assert!(one("https://10.0.0.1", true).unwrap_err().contains("certificate"));
        let mut spec: ServiceSpec = "web=https://10.0.0.1".parse().unwrap();
        spec.certificate = Some(format!("sha256:{}", "ab".repeat(32)));
        assert!(Services::new(&[spec.clone()], true, None).is_ok());
        spec.to = "http://10.0.0.1".into();
        assert!(Services::new(&[spec], true, None).unwrap_err().to_string().contains("for https"));
    }

    #[test]
    fn names_are_checked_and_unique() {
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
            ..format!("{}{number:02}=http://127.0.0.1:1", "n".repeat(30)).parse().unwrap()
        };
        let services = Services::new(&(0..64).map(spec).collect::<Vec<_>>(), false, None).unwrap();
        let text = serde_json::to_vec(&services.offers()).unwrap();
        assert!(text.len() < tcpmux_proto::control::MAX_MESSAGE * 3 / 4, "{}", text.len());
    }
}
