//! Calling addresses that somebody else chose, without being led astray: a name is resolved once, every answer
//! is looked at, and the connection goes to the very address that was looked at. No redirects, no proxies.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, response::Parts};
use http_body_util::Full;
use url::{Host, Url};

use super::{ClientError, DestinationError, Destinations, HttpClient};

/// Turns a name into addresses.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// Every address of the name, with this port.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The addresses of a name, to come.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Calls by that rule. Ten seconds a call; of an answer only its head counts, at most 64 KiB of its body are read.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: HttpClient,
    destinations: Destinations,
    resolver: Arc<dyn Resolver>,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address may not be called.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Its name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Outbound {
    /// Calls through this client's TLS settings to these destinations.
    pub fn new(client: HttpClient, destinations: Destinations, resolver: Arc<dyn Resolver>) -> Self {
        let client = client.within(CALL_TIME).at_most(MOST_BYTES).for_the_head();
        Self { client, destinations, resolver }
    }

    /// The rule on addresses.
    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Sends a request to where this address leads now; the request's own URI is replaced by it.
    ///
    /// # Errors
    /// [`OutboundError`]: a sentence that the address's owner may read.
    pub async fn send(&self, address: &str, request: Request<Full<Bytes>>) -> Result<Parts, OutboundError> {
        let url = self.destinations.read(address)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let sending = self.send_unbounded(&url, &host, request);
        match tokio::time::timeout(CALL_TIME, sending).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(host).into()),
        }
    }

    async fn send_unbounded(
        &self,
        url: &Url,
        host: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Parts, OutboundError> {
        let addresses = self.addresses(url, host).await?;
        *request.uri_mut() = url.as_str().parse().map_err(|_| DestinationError::Malformed)?;
        let answer = self.client.call_at(&addresses, request).await?;
        Ok(answer.into_parts().0)
    }

    /// Where to connect. One address that is not permitted spoils all of a name's: nobody honest has both kinds.
    async fn addresses(&self, url: &Url, host: &str) -> Result<Vec<SocketAddr>, OutboundError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let found = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            _ => {
                let failed = |source| OutboundError::Resolve { host: host.to_owned(), source };
                self.resolver.resolve(host, port).await.map_err(failed)?
            }
        };
        let is_plain = url.scheme() == "http";
        for address in &found {
            let ip = address.ip();
            if !self.destinations.permits(ip) || is_plain && !ip.is_loopback() {
                return Err(DestinationError::NotPublic(ip.to_string()).into());
            }
        }
        if found.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(OutboundError::Resolve { host: host.to_owned(), source });
        }
        Ok(found.into_iter().take(MOST_ADDRESSES).collect())
    }
}

const CALL_TIME: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 64 * 1024;
const MOST_ADDRESSES: usize = 4;

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
