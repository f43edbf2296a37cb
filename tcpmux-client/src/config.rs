//! The configuration of `tcpmux-client run`: defaults, then a TOML file, then the command line.
//!
//! ```toml
//! server = "cloud.example.com:7443"      # default: where the device enrolled
//! bind = "192.0.2.7"                     # of several ways out, the one by this address of the machine
//! state = "/var/lib/tcpmux-client"
//! local_api = "127.0.0.1:7480"           # "off" for none
//! claim_code = "/var/persist/claim_code"  # default: `claim_code` in the state directory
//! spool_mib = 64                         # reports that may wait for the cloud while it is away
//! allow_lan = false                      # true: targets may be on other machines
//! [log]
//! format = "text"                        # or json
//! level = "info"
//! [[service]]
//! name = "web"
//! to = "http://127.0.0.1:8080"           # http, https, tcp, unix
//! viewer_websocket = false               # true: viewers may open WebSockets too
//! certificate = "sha256:…"               # https only: the certificate that the service must show
//! host = "shop.example"                  # HTTP: what requests name as `Host`; default: the address, or the client's host
//! [identity]                             # a certificate of the operator's own CA instead of enrolment
//! key = "/etc/tcpmux/device.key"
//! certificate = "/etc/tcpmux/device.crt"
//! ca = "/etc/tcpmux/cloud-ca.crt"
//! ```

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error};

use crate::{
    ClaimFile, DaemonConfig, ProvidedIdentity, Proxies, ProxyError, ServerAddress, ServiceError, ServiceSpec,
    Services, StateDirectory, WayOut,
};

/// A configuration file, read but not yet checked as a whole.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Where the cloud is.
    pub server: Option<ServerAddress>,
    /// The address of this machine that connections to the cloud come from.
    pub bind: Option<IpAddr>,
    /// The state directory.
    pub state: Option<PathBuf>,
    /// Where local programs ask.
    #[serde(default)]
    pub local_api: LocalApi,
    /// Where the claim code is shown while nobody owns the device.
    pub claim_code: Option<PathBuf>,
    /// How many MiB of reports may wait for the cloud.
    pub spool_mib: Option<NonZeroU16>,
    /// Whether targets may be on other machines.
    #[serde(default)]
    pub allow_lan: bool,
    /// The log.
    #[serde(default)]
    pub log: LogSection,
    /// What can be reached.
    #[serde(default, rename = "service")]
    pub services: Vec<ServiceSection>,
    /// A certificate that the operator provides.
    pub identity: Option<IdentitySection>,
}

/// Where local programs ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalApi {
    /// Nowhere.
    Off,
    /// At this loopback address.
    At(SocketAddr),
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// `text` or `json`.
    pub format: Option<String>,
    /// A level or a filter.
    pub level: Option<String>,
}

/// `[[service]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSection {
    /// What the cloud calls it.
    pub name: String,
    /// Where it is.
    pub to: String,
    /// Whether viewers may open WebSockets on it.
    #[serde(default)]
    pub viewer_websocket: bool,
    /// The certificate that an https service must show.
    pub certificate: Option<String>,
    /// What HTTP requests name as `Host`, however the client named the device.
    pub host: Option<String>,
}

/// `[identity]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySection {
    /// The private key.
    pub key: PathBuf,
    /// The certificate chain.
    pub certificate: PathBuf,
    /// What the cloud's certificate has to lead to.
    pub ca: PathBuf,
}

/// What the command line says beside the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The state directory.
    pub state: Option<PathBuf>,
    /// Services beside those of the file; the same name replaces.
    pub services: Vec<ServiceSpec>,
    /// No local API.
    pub no_local_api: bool,
    /// Where the claim code is shown.
    pub claim_code: Option<PathBuf>,
    /// The address of this machine that connections to the cloud come from.
    pub bind: Option<IpAddr>,
}

/// Why the configuration cannot be used. The daemon exits with 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what it should be; the text names the line and the key.
    #[error("{path}: {message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A provided certificate without a server.
    #[error("[identity] needs `server = \"HOST:PORT\"` beside it: nothing else says where the cloud is")]
    NoServer,
    /// The environment's proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl ConfigFile {
    /// Reads a file; without one, everything is as if it were empty.
    ///
    /// # Errors
    /// If it cannot be read, or holds something that is not known.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.into(), message: error.to_string() })
    }

    /// Joins it with the command line and checks the whole.
    ///
    /// # Errors
    /// If a part cannot be used.
    pub fn daemon(self, overrides: Overrides, proxies: Proxies) -> Result<DaemonConfig, ConfigError> {
        if self.identity.is_some() && self.server.is_none() {
            return Err(ConfigError::NoServer);
        }
        let local_api = match self.local_api {
            LocalApi::At(address) if !overrides.no_local_api => Some(address),
            _ => None,
        };
        let replaced = |name: &str| overrides.services.iter().any(|spec| spec.name == name);
        let kept = self.services.into_iter().filter(|section| !replaced(&section.name));
        let mut specs: Vec<ServiceSpec> = kept.map(ServiceSpec::from).collect();
        specs.extend(overrides.services.iter().cloned());
        let services = Services::new(&specs, self.allow_lan, local_api)?;
        let state = overrides.state.or(self.state).unwrap_or_else(|| DEFAULT_STATE.into());
        let mut config = DaemonConfig::new(StateDirectory::at(state), services);
        if let Some(path) = overrides.claim_code.or(self.claim_code) {
            config.claim = ClaimFile::at(path);
        }
        if let Some(mib) = self.spool_mib {
            config.spool_bytes = u64::from(mib.get()) * 1024 * 1024;
        }
        config.server = self.server;
        config.provided = self.identity.map(|files| ProvidedIdentity {
            key: files.key,
            certificate: files.certificate,
            ca: files.ca,
        });
        config.way_out = WayOut { proxies, from: overrides.bind.or(self.bind) };
        config.local_api = local_api;
        Ok(config)
    }
}

impl From<ServiceSection> for ServiceSpec {
    fn from(section: ServiceSection) -> Self {
        let ServiceSection { name, to, viewer_websocket, certificate, host } = section;
        Self { name, to, viewer_websocket, certificate, host }
    }
}

impl Default for LocalApi {
    fn default() -> Self {
        Self::At(SocketAddr::from(([127, 0, 0, 1], DEFAULT_LOCAL_API_PORT)))
    }
}

impl<'de> Deserialize<'de> for LocalApi {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        if text == "off" {
            return Ok(Self::Off);
        }
        let address: Option<SocketAddr> = text.parse().ok();
        let loopback = address.filter(|address| address.ip().is_loopback());
        let expected = "`local_api` is a loopback address and port, as in \"127.0.0.1:7480\", or \"off\"";
        loopback.map(Self::At).ok_or_else(|| D::Error::custom(expected))
    }
}

/// The state directory where nothing else is said.
pub const DEFAULT_STATE: &str = "/var/lib/tcpmux-client";
/// The configuration file that is read if it is there and no other is named.
pub const DEFAULT_CONFIG: &str = "/etc/tcpmux/client.toml";
/// The port where local programs ask.
pub const DEFAULT_LOCAL_API_PORT: u16 = 7480;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConfigFile, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ConfigFile::read(Some(file.path())).map_err(|error| error.to_string())
    }

    fn daemon(text: &str, overrides: Overrides) -> Result<DaemonConfig, String> {
        read(text)?.daemon(overrides, Proxies::none()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_in_the_documentation_is_read() {
        let example = include_str!("config.rs");
        let lines = example.lines().skip_while(|line| *line != "//! ```toml").skip(1);
        let text: String = lines
            .map_while(|line| line.strip_prefix("//! ").filter(|l| *l != "```"))
            .fold(String::new(), |t, l| t + l + "\n");
        let mut file = read(&text).unwrap();
        assert_eq!(file.services[0].to, "http://127.0.0.1:8080");
        assert!(file.identity.take().is_some());
        file.services[0].certificate = None;
        let config = file.daemon(Overrides::default(), Proxies::none()).unwrap();
        assert_eq!(config.server.unwrap().to_string(), "cloud.example.com:7443");
        assert_eq!(config.local_api.unwrap().to_string(), "127.0.0.1:7480");
        assert_eq!(config.spool_bytes, 64 << 20);
        assert_eq!(config.way_out.from.unwrap().to_string(), "192.0.2.7");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for (text, key) in [
            ("sever = \"x:1\"", "sever"),
            ("[log]\nfromat = \"json\"", "fromat"),
            ("[[service]]\nname = \"web\"\nto = \"tcp://127.0.0.1:1\"\nviewers = true", "viewers"),
            ("[identity]\nkye = \"x\"", "kye"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key) && error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn the_command_line_wins() {
        let overrides = Overrides {
            state: Some("/other".into()),
            services: vec![
                "web=http://127.0.0.1:2".parse().unwrap(),
                "new=tcp://127.0.0.1:3".parse().unwrap(),
            ],
            no_local_api: true,
            claim_code: Some("/other/claim_code".into()),
            bind: Some("192.0.2.8".parse().unwrap()),
        };
        let text = "state = \"/this\"\nbind = \"192.0.2.7\"\n[[service]]\nname = \"web\"\nto = \"http://127.0.0.1:1\"\n\
                    [[service]]\nname = \"old\"\nto = \"http://127.0.0.1:4\"";
        let config = daemon(text, overrides).unwrap();
        assert_eq!((config.state.path().to_str().unwrap(), config.local_api), ("/other", None));
        assert_eq!(config.way_out.from.unwrap().to_string(), "192.0.2.8");
        let targets: Vec<_> =
            config.services.iter().map(|s| (s.name.to_string(), s.target.addresses()[0].port())).collect();
        assert_eq!(targets, [("new".into(), 3), ("old".into(), 4), ("web".into(), 2)]);
    }

    #[test]
    fn defaults_stand_without_a_file() {
        let config = ConfigFile::read(None).unwrap().daemon(Overrides::default(), Proxies::none()).unwrap();
        assert_eq!(config.state.path().to_str().unwrap(), DEFAULT_STATE);
        assert_eq!(config.local_api.unwrap().port(), DEFAULT_LOCAL_API_PORT);
        assert!(config.services.iter().next().is_none());
        assert_eq!(config.way_out.from, None);
    }

    #[test]
    fn the_local_api_is_on_loopback_or_off() {
        assert!(read("local_api = \"0.0.0.0:7480\"").unwrap_err().contains("loopback"));
        assert!(read("local_api = \"7480\"").unwrap_err().contains("loopback"));
        assert_eq!(daemon("local_api = \"off\"", Overrides::default()).unwrap().local_api, None);
        let own = "[[service]]\nname = \"web\"\nto = \"http://127.0.0.1:7480\"";
        assert!(daemon(own, Overrides::default()).unwrap_err().contains("own API"));
    }

    #[test]
    fn lan_targets_need_a_word() {
        let text = "[[service]]\nname = \"web\"\nto = \"http://10.0.0.1\"";
        assert!(daemon(text, Overrides::default()).unwrap_err().contains("allow_lan = true"));
        assert!(daemon(&format!("allow_lan = true\n{text}"), Overrides::default()).is_ok());
    }

    #[test]
    fn a_provided_certificate_needs_a_server() {
        let text = "[identity]\nkey = \"k\"\ncertificate = \"c\"\nca = \"a\"";
        assert!(daemon(text, Overrides::default()).unwrap_err().contains("server"));
    }
}
