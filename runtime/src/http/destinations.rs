//! Where calls may go whose address somebody else chose: to the public Internet, and to networks that the
//! operator names.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The rule. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Destinations {
    allow: Arc<[IpNet]>,
}

/// Why an address may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// It is no URL, or one with parts that have no place here.
    #[error("write a plain https:// address without user name and fragment, of at most {MOST_BYTES} bytes")]
    Malformed,
    /// Not HTTPS.
    #[error("only https:// is called; http:// to loopback alone, where the operator allows it")]
    Scheme,
    /// A port where no web server is expected.
    #[error("the port has to be 443, or 1024 and above")]
    Port,
    /// An address of a network that is not public, and that the operator has not allowed.
    #[error("{0} is not a public address; the operator can allow its network in [webhooks] allow")]
    NotPublic(String),
}

impl Destinations {
    /// The public Internet and these networks.
    pub fn allowing(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { allow: networks.into_iter().collect() }
    }

    /// Reads an address that somebody gave. What a name resolves to is looked at when it is called.
    ///
    /// # Errors
    /// A sentence for whoever gave it.
    pub fn read(&self, text: &str) -> Result<Url, DestinationError> {
        if text.len() > MOST_BYTES || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(DestinationError::Malformed);
        }
        let url = Url::parse(text).map_err(|_| DestinationError::Malformed)?;
        let host = url.host().ok_or(DestinationError::Malformed)?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(DestinationError::Malformed);
        }
        // The parser has already turned 0x7f.1, 2130706433 and the like into addresses.
        let literal = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Host::Domain(_) => None,
        };
        match url.scheme() {
            "https" => {}
            "http" if literal.is_some_and(|address| address.is_loopback() && self.names(address)) => {}
            _ => return Err(DestinationError::Scheme),
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if literal.is_none_or(|address| !self.names(address)) && port != 443 && port < 1024 {
            return Err(DestinationError::Port);
        }
        match literal {
            Some(address) if !self.permits(address) => Err(DestinationError::NotPublic(address.to_string())),
            _ => Ok(url),
        }
    }

    /// Whether a connection to this address may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        is_public(address) || self.names(address)
    }

    fn names(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(&address))
    }
}

/// Whether an address is one of the public Internet: what the registries of special-purpose addresses
/// (RFC 6890) leave, without what clouds use for their machines' metadata. Addresses that carry another one
/// inside (mapped, translated, 6to4, Teredo) are not: what they lead to is not ours to know.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

const SPECIAL_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),        // this network, unspecified
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carriers' address sharing
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // a cloud's own services to its machines
    v4(169, 254, 0, 0, 16),   // link-local, metadata
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // relays of 6to4
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 3);
const SPECIAL_V6: &[Ipv6Net] = &[
    v6(0x2001, 0, 23),     // protocol assignments, Teredo, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

const MOST_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// One or more of every class, edges included.
    const REFUSED: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "100::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "5f00::1",
    ];
    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::1",
    ];

    #[test]
    fn every_class_of_special_addresses_is_refused_and_public_ones_are_not() {
        for text in REFUSED {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in PUBLIC {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_operator_allows_networks_by_name_and_nothing_beside_them() {
        let some = Destinations::allowing(["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (address, permitted) in [
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::ffff:10.1.2.3", false),
            ("1.1.1.1", true),
        ] {
            assert_eq!(some.permits(address.parse().unwrap()), permitted, "{address}");
        }
        assert!(!Destinations::default().permits("10.1.2.3".parse().unwrap()), "control");
    }

    #[test]
    fn literals_in_every_spelling_are_seen_through() {
        let none = Destinations::default();
        for text in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://localhost/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[fd00:ec2::254]/",
            "https://0/",
            "https://１２７.0.0.1/",
        ] {
            assert!(matches!(none.read(text), Err(DestinationError::NotPublic(_))), "{text}");
        }
        for text in
            ["https://example.com/hook?x=1", "https://1.1.1.1:8443/", "https://xn--bcher-kva.example/"]
        {
            assert!(none.read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn only_plain_https_addresses_with_ordinary_ports_are_read() {
        let none = Destinations::default();
        for (text, error) in [
            ("", DestinationError::Malformed),
            ("example.com", DestinationError::Malformed),
            ("https://", DestinationError::Malformed),
            ("https://user@example.com/", DestinationError::Malformed),
            ("https://user:pass@example.com/", DestinationError::Malformed),
            ("https://example.com/#part", DestinationError::Malformed),
            ("https://example.com/a b", DestinationError::Malformed),
            ("https://example.com/\n", DestinationError::Malformed),
            ("http://example.com/", DestinationError::Scheme),
            ("http://127.0.0.1/", DestinationError::Scheme),
            ("ftp://example.com/", DestinationError::Scheme),
            ("file:///etc/passwd", DestinationError::Malformed),
            ("gopher://example.com/", DestinationError::Scheme),
            ("https://example.com:22/", DestinationError::Port),
            ("https://example.com:25/", DestinationError::Port),
            ("https://example.com:0/", DestinationError::Port),
        ] {
            assert_eq!(none.read(text).unwrap_err(), error, "{text}");
        }
        let long = format!("https://example.com/{}", "a".repeat(MOST_BYTES));
        assert_eq!(none.read(&long), Err(DestinationError::Malformed));
        let loopback = Destinations::allowing(["127.0.0.0/8".parse().unwrap()]);
        assert!(
            loopback.read("http://127.0.0.1:80/").is_ok() && loopback.read("http://localhost:9/").is_ok()
        );
        assert_eq!(loopback.read("http://example.com/"), Err(DestinationError::Scheme));
        let private = Destinations::allowing(["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(private.read("http://10.0.0.1/"), Err(DestinationError::Scheme), "loopback alone");
        assert!(private.read("https://10.0.0.1/").is_ok());
    }
}
