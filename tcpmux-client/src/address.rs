//! Where the cloud is: a host and a port, as enrolment strings and configuration write it.

use std::{fmt, net::IpAddr, str::FromStr};

use rustls_pki_types::{DnsName, ServerName};
use serde::{Deserialize, Serialize};

/// The host and port of a cloud's device door: `cloud.example.com:7443`, `192.0.2.7`, `[2001:db8::7]:7443`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

/// Why a text does not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a server; write HOST or HOST:PORT, as in cloud.example.com:7443")]
pub struct ServerAddressError(String);

impl ServerAddress {
    /// The name or address to resolve, without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        }
    }

    /// The address, where the host is one and nothing has to be resolved.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Address(address) => Some(address),
            Host::Name(_) => None,
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server's certificate has to name.
    pub(crate) fn tls_name(&self) -> ServerName<'static> {
        match &self.host {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::DnsName(
                DnsName::try_from(name.clone()).expect("a host name was checked when it was read"),
            ),
        }
    }
}

impl FromStr for ServerAddress {
    type Err = ServerAddressError;
    fn from_str(text: &str) -> Result<Self, ServerAddressError> {
        let bad = || ServerAddressError(text.chars().take(80).collect());
        let (host, port) = if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: Host::Address(address), port: DEFAULT_PORT });
        } else if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or_else(bad)?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) };
            (Host::Address(IpAddr::V6(address.parse().map_err(|_| bad())?)), port)
        } else {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            let host = match name.parse::<IpAddr>() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Name(checked_name(name).ok_or_else(bad)?),
            };
            (host, port)
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| bad())?;
        if port == 0 { Err(bad()) } else { Ok(Self { host, port }) }
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = ServerAddressError;
    fn try_from(text: String) -> Result<Self, ServerAddressError> {
        text.parse()
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

fn checked_name(name: &str) -> Option<String> {
    // A name whose last label is a number would be read as an address elsewhere.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (!numeric && DnsName::try_from(name).is_ok()).then(|| name.to_ascii_lowercase())
}

/// The device door's port where none is written.
const DEFAULT_PORT: u16 = 7443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_server() {
        for (text, shown) in [
            ("cloud.example.com:1234", "cloud.example.com:1234"),
            ("Cloud.Example.com", "cloud.example.com:7443"),
            ("localhost:7443", "localhost:7443"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:9", "[::1]:9"),
            ("[::1]", "[::1]:7443"),
            ("2001:db8::7", "[2001:db8::7]:7443"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "host:+1x",
            "a b:1",
            "https://host:1",
            "host:1/x",
            "user@host:1",
            "[::1",
            "[::1]9",
            "[host]:9",
            "1.2.3:9",
            "a_b/c:1",
        ] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_name_in_the_certificate_is_the_host() {
        let named: ServerAddress = "cloud.example.com:1".parse().unwrap();
        assert_eq!(named.tls_name().to_str(), "cloud.example.com");
        let literal: ServerAddress = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(literal.tls_name(), ServerName::IpAddress(_)));
    }
}
