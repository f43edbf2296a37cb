//! Where a local service listens: an address, never a name to be resolved later.
//!
//! What a stream can reach is decided when the configuration is read, once, by the owner of the device.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use model::Fingerprint;
use rustls_pki_types::ServerName;
use tcpmux_proto::{LocalAuthority, StreamKind};

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

    /// What the cloud is told of how to speak to it.
    pub(crate) fn kind(&self) -> StreamKind {
        match self {
            Self::Http(_) | Self::Https { .. } | Self::Unix(_) => StreamKind::Http,
            Self::Tcp(_) => StreamKind::Tcp,
        }
    }

    /// What HTTP calls it (RFC 9110 §4.2, §7.2): the scheme's own port is not said.
    pub(crate) fn authority(&self) -> Option<LocalAuthority> {
        let (addresses, default_port) = match self {
            Self::Http(addresses) => (addresses, 80),
            Self::Https { addresses, .. } => (addresses, 443),
            Self::Tcp(_) | Self::Unix(_) => return None,
        };
        let host = match addresses.as_slice() {
            [SocketAddr::V4(one)] => one.ip().to_string(),
            [SocketAddr::V6(one)] => format!("[{}]", one.ip()),
            _ => LOCALHOST.to_owned(),
        };
        let port = addresses.first().map(SocketAddr::port).filter(|port| *port != default_port);
        let text = match port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        text.parse().ok()
    }

    /// Whether the owner allows it. `own_api` is this daemon's own address.
    pub(crate) fn check(&self, allow_lan: bool, own_api: Option<SocketAddr>) -> Result<(), String> {
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
    if host.eq_ignore_ascii_case(LOCALHOST) {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Some(both.map(|address| (address, port).into()).to_vec());
    }
    // `::ffff:127.0.0.1` is judged as what it reaches.
    let address: IpAddr = host.parse().ok()?;
    Some(vec![(address.to_canonical(), port).into()])
}

/// The one name: it means both loopback addresses.
const LOCALHOST: &str = "localhost";
/// What hands out credentials to whoever asks from a cloud machine: never a target, on no configuration.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, allow_lan: bool) -> Result<LocalTarget, String> {
        let target: LocalTarget = text.parse()?;
        target.check(allow_lan, Some("127.0.0.1:7480".parse().unwrap()))?;
        Ok(target)
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
    }
}
