//! Accept loops: none ever waits for a handshake, each is bounded, each ends when draining begins.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ServerConfig, server::Acceptor};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{Handshakes, ReadAhead, Records, Tasks, records, sockets};

/// Bounds of a door.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// Handshakes past their ClientHello at once: the part that costs.
    pub handshakes_at_once: usize,
    /// Sockets of one source (IPv4 address, IPv6 /64) that have not finished their handshake.
    pub waiting_per_source: usize,
    /// Sockets of all sources that have not finished their handshake.
    pub waiting: usize,
    /// How long a peer may leave what we sent unacknowledged or unread; then the connection is dead. Short where
    /// the other end is a daemon that always reads, long where it may be a person who paused a download.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            handshakes_at_once: 64,
            waiting_per_source: 1024,
            waiting: 8192,
            unread: PATIENCE,
        }
    }
}

/// Chooses the TLS settings for a client by the protocols that it offers; `None` refuses it.
pub type Choose = dyn Fn(&mut dyn Iterator<Item = &[u8]>) -> Option<Arc<ServerConfig>> + Send + Sync;

/// Binds a listening socket. Port 0 takes any free one.
///
/// # Errors
/// The system's error, with the address in its text.
#[expect(clippy::unused_async, reason = "it must be called within a runtime, which registers the socket")]
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Else a restart would have to wait for the connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(NOT_YET_ACCEPTED)
    };
    listen().map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// A connection whose handshake is done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and records live in their driver")]
pub enum Secured {
    /// The usual one.
    Stream(Box<TlsStream<ReadAhead<TcpStream>>>),
    /// One whose settings let secrets be extracted, and who is at its other end.
    Records(Records<TcpStream>, records::Peer),
}

/// Accepts TLS connections until draining begins, each in a task of its own.
///
/// `choose` picks the settings after the ClientHello, none of which lets secrets be extracted; `serve` gets the
/// connection once the handshake stands.
pub async fn accept_tls<S, F>(
    listener: TcpListener,
    handshakes: Handshakes,
    choose: Arc<Choose>,
    tasks: Tasks,
    serve: S,
) where
    S: Fn(TlsStream<ReadAhead<TcpStream>>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let serve = move |secured, peer| {
        let serve = serve.clone();
        async move {
            match secured {
                Secured::Stream(tls) => serve(*tls, peer).await,
                Secured::Records(..) => tracing::error!(%peer, "this door has settings of a tunnel"),
            }
        }
    };
    accept_secured(listener, handshakes, choose, tasks, serve).await;
}

/// The same for settings of both kinds.
pub async fn accept_secured<S, F>(
    listener: TcpListener,
    handshakes: Handshakes,
    choose: Arc<Choose>,
    tasks: Tasks,
    serve: S,
) where
    S: Fn(Secured, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let limits = handshakes.limits();
    let costly = Arc::new(Semaphore::new(limits.handshakes_at_once));
    accept(listener, &tasks.clone(), move |socket, peer| {
        if limits.unread != PATIENCE
            && let Err(error) = SockRef::from(&socket).set_tcp_user_timeout(Some(limits.unread))
        {
            tracing::debug!(%peer, %error, "socket options");
        }
        let Some(place) = handshakes.begin(peer.ip()) else {
            tracing::debug!(%peer, "refused: too many unfinished handshakes");
            return;
        };
        let (choose, costly, serve) = (Arc::clone(&choose), Arc::clone(&costly), serve.clone());
        tasks.spawn(async move {
            let deadline = Instant::now() + limits.handshake;
            match tokio::time::timeout_at(deadline, handshake(socket, &*choose, &costly)).await {
                Ok(Ok(tls)) => {
                    drop(place);
                    serve(tls, peer).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    })
    .await;
}

/// Accepts plain connections until draining begins and hands each to `serve`, which must not block.
pub async fn accept(listener: TcpListener, tasks: &Tasks, mut serve: impl FnMut(TcpStream, SocketAddr)) {
    let draining = tasks.draining();
    loop {
        let accepted = tokio::select! {
            biased;
            () = draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                if let Err(error) = sockets::tune(&socket, PATIENCE) {
                    tracing::debug!(%peer, %error, "socket options");
                }
                serve(socket, peer);
            }
            // Out of descriptors, or a connection that died in the queue: the loop must live on.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

async fn handshake(socket: TcpStream, choose: &Choose, costly: &Semaphore) -> io::Result<Secured> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::keeping(socket)).await?;
    let chosen = {
        let hello = start.client_hello();
        let mut offered = hello.alpn().into_iter().flatten();
        choose(&mut offered)
    };
    let config = chosen.ok_or_else(|| io::Error::other("no protocol that this door speaks was offered"))?;
    let _permit = costly.acquire().await.map_err(io::Error::other)?;
    if config.enable_secret_extraction {
        let (socket, seen) = start.io.into_parts();
        let (records, peer) = records::accept(socket, config, seen).await?;
        return Ok(Secured::Records(records, peer));
    }
    start.io.forget();
    Ok(Secured::Stream(Box::new(start.into_stream(config).await?)))
}

/// What counts as one source in limits: an IPv4 address, or an IPv6 /64, since a host owns all of it.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// Connections that the system keeps until they are accepted; beyond it drops what callers send, and each of them tries
/// again after whole seconds. A fleet comes back all at once. The system grants no more than `net.core.somaxconn`, which
/// is as much as this by default.
const NOT_YET_ACCEPTED: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_that_come_all_at_once_wait_in_the_queue_of_the_system() {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut callers = vec![];
        while callers.len() < 300 {
            // One that finds the queue full is dropped, and would try again until somebody accepts.
            let connecting = tokio::time::timeout(Duration::from_secs(30), TcpStream::connect(address));
            callers
                .push(connecting.await.unwrap_or_else(|_| panic!("full after {}", callers.len())).unwrap());
        }
        assert!(
            bind(address).await.unwrap_err().to_string().contains(&format!("cannot listen on {address}"))
        );
    }

    #[test]
    fn an_ipv6_host_is_one_source_whatever_address_it_takes() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
