//! Where the shared registry is.

use std::{fmt, str::FromStr, sync::Arc};

use redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsCertificates, io::tcp::TcpSettings};

/// The address of a Redis server: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for
/// TLS. It prints without its password.
#[derive(Clone)]
pub struct RedisAddress {
    info: Arc<ConnectionInfo>,
    /// PEM certificates that the server's has to lead to; none: the system's.
    roots: Option<Arc<[u8]>>,
    shown: String,
}

impl RedisAddress {
    /// The same server, whose certificate has to lead to one of these, given as PEM, instead of the system's.
    ///
    /// # Errors
    /// If there is no certificate in it, or the address is not one of TLS.
    pub fn trusting(self, roots: &[u8]) -> Result<Self, String> {
        let address = Self { roots: Some(roots.into()), ..self };
        if !address.shown.starts_with("rediss:") {
            return Err("only a server that is named with rediss:// shows a certificate".into());
        }
        let count = roots.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
        let client = address.client().map_err(|error| error.to_string());
        match client {
            Ok(_) if count > 0 => Ok(address),
            Ok(_) => Err("there is no PEM certificate in it".into()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn client(&self) -> redis::RedisResult<Client> {
        let info = ConnectionInfo::clone(&self.info);
        match &self.roots {
            None => Client::open(info),
            Some(roots) => Client::build_with_tls(
                info,
                TlsCertificates { client_tls: None, root_cert: Some(roots.to_vec()) },
            ),
        }
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

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
        Ok(Self { info: Arc::new(info), roots: None, shown })
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
    fn roots_are_for_tls_and_have_to_be_certificates() {
        let plain: RedisAddress = "redis://127.0.0.1:6379".parse().unwrap();
        assert!(plain.trusting(b"").unwrap_err().contains("rediss://"));
        for wrong in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAA\n"] {
            let encrypted: RedisAddress = "rediss://127.0.0.1:6379".parse().unwrap();
            assert!(encrypted.trusting(wrong.as_bytes()).is_err(), "{wrong}");
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
