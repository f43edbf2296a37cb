//! What a service of a device takes for its own name.

use std::{fmt, net::Ipv6Addr, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// How an HTTP service wants to be addressed: what its requests carry as `Host` (RFC 9110 §7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalHost {
    /// The authority.
    pub authority: LocalAuthority,
    /// Whether the device's owner set it, for whatever name a client used. If not, it is where the service listens,
    /// and stands in only where the client named no host of the device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
}

/// A host and perhaps a port, without user information (RFC 3986 §3.2): names of ASCII letters, digits, `-`, `.`
/// and `_`, IPv4 addresses, IPv6 addresses in brackets; at most 100 characters.
///
/// Whatever parses can stand in a header and in a URL as it is.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalAuthority(Arc<str>);

/// Why a text is no [`LocalAuthority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalAuthorityError {
    /// It has no characters, or too many.
    #[error("a host has 1 to {MAX_AUTHORITY} characters")]
    Length,
    /// The host is not one.
    #[error(
        "a host is a name, an IPv4 address or an IPv6 address in brackets, as in shop.example or [::1]:8080"
    )]
    Host,
    /// What follows the host is no port.
    #[error("after the host comes nothing, or a port from 1 to 65535, as in shop.example or [::1]:8080")]
    Port,
}

impl LocalAuthority {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalAuthority {
    type Err = LocalAuthorityError;
    fn from_str(text: &str) -> Result<Self, LocalAuthorityError> {
        if text.is_empty() || text.len() > MAX_AUTHORITY {
            return Err(LocalAuthorityError::Length);
        }
        let (is_host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(LocalAuthorityError::Host)?;
                (host.parse::<Ipv6Addr>().is_ok(), rest)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                (!host.is_empty() && host.bytes().all(legal), port)
            }
        };
        if !is_host {
            return Err(LocalAuthorityError::Host);
        }
        let is_port = |digits: &str| {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        };
        match port.strip_prefix(':') {
            None if port.is_empty() => Ok(Self(text.into())),
            Some(digits) if is_port(digits) => Ok(Self(text.into())),
            _ => Err(LocalAuthorityError::Port),
        }
    }
}

impl TryFrom<String> for LocalAuthority {
    type Error = LocalAuthorityError;
    fn try_from(text: String) -> Result<Self, LocalAuthorityError> {
        text.parse()
    }
}

impl From<LocalAuthority> for String {
    fn from(authority: LocalAuthority) -> Self {
        authority.0.as_ref().to_owned()
    }
}

impl fmt::Display for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// So short that a hello with every service at its limits is one message.
const MAX_AUTHORITY: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports_are_authorities() {
        for text in [
            "localhost",
            "127.0.0.1:8080",
            "[::1]",
            "[fe80::1]:65535",
            "Shop.example:443",
            "my_app.",
            &"a".repeat(100),
        ] {
            assert_eq!(text.parse::<LocalAuthority>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_could_mean_more_than_a_host_is_refused() {
        use LocalAuthorityError::{Host, Length, Port};
        let long = "a".repeat(101);
        for (text, error) in [
            ("", Length),
            (long.as_str(), Length),
            (":80", Host),
            ("a b", Host),
            ("a\r\nX: y", Host),
            ("user@host", Host),
            ("host/path", Host),
            ("host?q", Host),
            ("a,b", Host),
            ("bücher.example", Host),
            ("%41", Host),
            ("::1", Host),
            ("[127.0.0.1]", Host),
            ("[::1", Host),
            ("[::1]80", Port),
            ("host:", Port),
            ("host:0", Port),
            ("host:+1", Port),
            ("host:65536", Port),
            ("host:80:80", Port),
        ] {
            assert_eq!(text.parse::<LocalAuthority>(), Err(error), "{text:?}");
            assert!(serde_json::from_value::<LocalAuthority>(text.into()).is_err(), "{text:?}");
        }
    }
}
