//! Where the shared registry is.

use std::{fmt, str::FromStr, sync::Arc};

use redis::{ConnectionInfo, IntoConnectionInfo, io::tcp::TcpSettings};

/// The address of a Redis server: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for
/// TLS. It prints without its password.
#[derive(Clone)]
pub struct RedisAddress {
    info: Arc<ConnectionInfo>,
    shown: String,
}

impl RedisAddress {
    pub(super) fn info(&self) -> ConnectionInfo {
        ConnectionInfo::clone(&self.info)
    }
}

impl FromStr for RedisAddress {
    type Err = String;
    /// What is wrong with it is said without the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let url =
            redis::parse_redis_url(text).filter(|url| matches!(url.scheme(), "redis" | "rediss")).ok_or(
                "write redis://HOST:PORT, or rediss://HOST:PORT for TLS; no other kind of address is known",
            )?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("write redis://HOST:PORT/DATABASE and nothing after it; the server's certificate is always checked".into());
        }
        let shown = match (url.username(), url.password()) {
            ("", None) => String::new(),
            (user, None) => format!("{user}@"),
            (user, Some(_)) => format!("{user}:…@"),
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{}://{shown}{host}{port}{}", url.scheme(), url.path());
        let info = url.into_connection_info().map_err(|_| {
            "write redis://HOST:PORT/DATABASE, where DATABASE is a number, with the password percent-encoded"
        })?;
        // Small questions that somebody waits for.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { info: Arc::new(info), shown })
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_without_its_password() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:hunter2@redis.example.com/3", "redis://:…@redis.example.com/3"),
            ("rediss://cloud:hunter2@[::1]:7000/", "rediss://cloud:…@[::1]:7000/"),
            ("redis://cloud:hun@ter2@redis", "redis://cloud:…@redis"),
        ] {
            let address: RedisAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("ter2"));
        }
    }

    #[test]
    fn other_addresses_are_refused_and_not_repeated() {
        for bad in [
            "hunter2",
            "http://:hunter2@redis",
            "unix:///run/hunter2.sock",
            "redis+unix:///run/hunter2.sock",
            "redis://:hunter2@redis/first",
            "redis://:hunter2@0.0.0.0",
            "redis://:hun/ter2@redis",
            "rediss://:hunter2@redis/#insecure",
            "redis://redis?protocol=hunter2",
            "",
        ] {
            let said = bad.parse::<RedisAddress>().unwrap_err();
            assert!(
                said.starts_with("write redis://HOST:PORT") && !said.contains("hunter2"),
                "{bad}: {said}"
            );
        }
    }
}
