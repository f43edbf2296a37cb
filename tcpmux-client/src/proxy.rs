//! The way out through an HTTP proxy, as the environment names it.
//!
//! `HTTPS_PROXY` (or `https_proxy`) names it, `NO_PROXY` (or `no_proxy`) the hosts that are reached
//! without. The proxy only sees a CONNECT and then TLS.

use std::{fmt, io, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use model::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{ServerAddress, enrolment_string::percent_decoded};

/// Which proxy to use for which server.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    /// Host names, suffixes with a leading dot, addresses, or `*`.
    exceptions: Vec<String>,
}

/// One proxy.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) address: ServerAddress,
    /// `user:password` in base64.
    credentials: Option<Secret<String>>,
}

/// Why the environment's proxy cannot be used. The value may hold a password and is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("HTTPS_PROXY: {0}; write http://[USER:PASSWORD@]HOST:PORT")]
pub struct ProxyError(&'static str);

impl Proxies {
    /// No proxy at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// This proxy for every server: `http://[USER:PASSWORD@]HOST:PORT`.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn through(proxy: &str) -> Result<Self, ProxyError> {
        Ok(Self { proxy: Some(proxy.parse()?), exceptions: vec![] })
    }

    /// What the environment says.
    ///
    /// # Errors
    /// If it names a proxy that cannot be used; to go out directly instead would not be what was asked.
    pub fn from_environment() -> Result<Self, ProxyError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let either = |upper, lower| lookup(upper).or_else(|| lookup(lower)).filter(|text| !text.is_empty());
        let proxy = either("HTTPS_PROXY", "https_proxy").map(|text| text.parse()).transpose()?;
        let exceptions = either("NO_PROXY", "no_proxy").unwrap_or_default();
        let exceptions = exceptions.split(',').map(|part| part.trim().to_ascii_lowercase());
        Ok(Self { proxy, exceptions: exceptions.filter(|part| !part.is_empty()).collect() })
    }

    /// The proxy on the way to this server.
    pub(crate) fn towards(&self, server: &ServerAddress) -> Option<&Proxy> {
        let host = server.host();
        let excepted = self.exceptions.iter().any(|exception| {
            let name = exception.trim_start_matches('.');
            let below = host.strip_suffix(name).is_some_and(|front| front.ends_with('.'));
            exception == "*" || host == name || (server.literal().is_none() && below)
        });
        self.proxy.as_ref().filter(|_| !excepted)
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(ProxyError("only http:// proxies can be used")),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, rest),
        };
        if !address.contains(':') {
            return Err(ProxyError("the port is missing"));
        }
        let credentials = credentials
            .map(|text| percent_decoded(text).ok_or(ProxyError("the user or password cannot be read")))
            .transpose()?;
        Ok(Self {
            address: address.parse().map_err(|_| ProxyError("it names no host and port"))?,
            credentials: credentials.map(|text| Secret::new(BASE64_STANDARD.encode(text))),
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}", self.address)
    }
}

impl Proxy {
    /// Asks for a connection to the server (RFC 9110 §9.3.6). After this the stream is the server's.
    pub(crate) async fn connect<S>(&self, stream: &mut S, server: &ServerAddress) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
        if let Some(credentials) = &self.credentials {
            request = request + "Proxy-Authorization: Basic " + credentials.expose() + "\r\n";
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let status = read_answer(stream).await?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        let remedy = match status {
            407 => "; it wants a user and password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
            403 => "; it does not allow this server and port",
            _ => "",
        };
        Err(io::Error::other(format!("{self} answered {status} to CONNECT {server}{remedy}")))
    }
}

/// Reads the answer's head byte by byte: what follows it is no business of this layer.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_ANSWER {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&head).ok();
    let status = text.and_then(|text| text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    status.ok_or_else(|| io::Error::other("the proxy does not speak HTTP"))
}

const LONGEST_ANSWER: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(https: &str, no: &str) -> Result<Proxies, ProxyError> {
        Proxies::from_lookup(|name| match name {
            "https_proxy" => Some(https.to_owned()),
            "NO_PROXY" => Some(no.to_owned()),
            _ => None,
        })
    }

    fn used(no: &str, server: &str) -> bool {
        proxies("http://proxy:3128", no).unwrap().towards(&server.parse().unwrap()).is_some()
    }

    #[test]
    fn exceptions_are_hosts_suffixes_and_addresses() {
        assert!(used("", "cloud.example.com:1"));
        assert!(!used("*", "cloud.example.com:1"));
        assert!(!used("localhost, cloud.example.com", "cloud.example.com:1"));
        assert!(!used(".example.com", "cloud.example.com:1"));
        assert!(!used("example.com", "cloud.example.com:1"));
        assert!(used("ample.com", "cloud.example.com:1"));
        assert!(!used("127.0.0.1", "127.0.0.1:1"));
        assert!(used("0.1", "10.0.0.1:1"));
        assert!(Proxies::none().towards(&"h:1".parse().unwrap()).is_none());
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_keeps_the_password() {
        for bad in
            ["https://user:hunter2@proxy:1", "socks5://proxy:1", "http://user:hunter2@proxy", "http://:1"]
        {
            let error = proxies(bad, "").unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let good = proxies("http://user:hunter2@proxy:3128/", "").unwrap();
        assert!(!format!("{good:?}").contains("hunter2"));
        assert!(proxies("", "").unwrap().proxy.is_none());
    }

    async fn answered(answer: &'static str) -> (io::Result<()>, String) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let proxy: Proxy = "http://user:p%40ss@proxy:3128".parse().unwrap();
        let server = "cloud.example.com:7443".parse().unwrap();
        let script = async {
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                request.push(far.read_u8().await.unwrap());
            }
            far.write_all(answer.as_bytes()).await.unwrap();
            drop(far);
            String::from_utf8(request).unwrap()
        };
        tokio::join!(proxy.connect(&mut near, &server), script)
    }

    #[tokio::test]
    async fn connect_names_the_server_and_shows_the_credentials() {
        let (outcome, request) = answered("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
        outcome.unwrap();
        assert!(
            request
                .starts_with("CONNECT cloud.example.com:7443 HTTP/1.1\r\nHost: cloud.example.com:7443\r\n")
        );
        assert!(request.contains("Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"));
    }

    #[tokio::test]
    async fn a_refusal_of_the_proxy_is_told() {
        let refused = answered("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.0.unwrap_err();
        assert!(refused.to_string().contains("407") && refused.to_string().contains("USER:PASSWORD"));
        assert!(answered("SSH-2.0-x\r\n\r\n").await.0.is_err());
        assert!(answered("HTTP/1.1 200").await.0.is_err());
    }
}
