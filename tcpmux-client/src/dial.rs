//! A TCP connection to the cloud: all addresses of the name, or the proxy's.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::{ServerAddress, WayOut};

/// Why no connection came to stand.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address now.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address answered.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Where to.
        server: String,
        /// What the last address said.
        source: io::Error,
    },
    /// The proxy did not let us through.
    #[error("{0}")]
    Proxy(io::Error),
    /// It took too long.
    #[error("{0} did not answer within {limit} s", limit = DIAL_LIMIT.as_secs())]
    TimedOut(String),
}

/// Connects to the server, through the proxy where there is one.
pub(crate) async fn dial(server: &ServerAddress, way_out: &WayOut) -> Result<TcpStream, DialError> {
    let from = way_out.from;
    let Some(proxy) = way_out.proxies.towards(server) else { return dial_directly(server, from).await };
    let mut stream = dial_directly(&proxy.address, from).await?;
    match tokio::time::timeout(DIAL_LIMIT, proxy.connect(&mut stream, server)).await {
        Ok(outcome) => outcome.map_err(DialError::Proxy).map(|()| stream),
        Err(_) => Err(DialError::TimedOut(proxy.to_string())),
    }
}

async fn dial_directly(server: &ServerAddress, from: Option<IpAddr>) -> Result<TcpStream, DialError> {
    let addresses = resolve(server).await?;
    let racing = race(addresses, |address| async move {
        let stream = connect(address, from).await?;
        runtime::sockets::tune(&stream, UNREAD)?;
        Ok(stream)
    });
    match tokio::time::timeout(DIAL_LIMIT, racing).await {
        Ok(outcome) => outcome.map_err(|source| DialError::Connect { server: server.to_string(), source }),
        Err(_) => Err(DialError::TimedOut(server.to_string())),
    }
}

async fn connect(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(address).await };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // An address that this machine has not, or has not now; or one of the other family.
    let bound = socket.bind((from, 0).into());
    bound.map_err(|error| io::Error::new(error.kind(), format!("not from {from} (see `bind`): {error}")))?;
    socket.connect(address).await
}

/// The addresses of a server, asked anew each time: a cloud moves, a resolver may have been down.
pub(crate) async fn resolve(server: &ServerAddress) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(address) = server.literal() {
        return Ok(vec![(address, server.port()).into()]);
    }
    let host = server.host();
    let failed = |source| DialError::Resolve { host: host.clone(), source };
    let found = tokio::time::timeout(DIAL_LIMIT, lookup_host((host.as_str(), server.port()))).await;
    let found: Vec<_> = found.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?.collect();
    if found.is_empty() { Err(failed(io::ErrorKind::NotFound.into())) } else { Ok(in_turns(found)) }
}

/// Random order, so that a fleet spreads over the addresses; families in turns, so that a broken one
/// costs little (RFC 8305 §4).
fn in_turns(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    fastrand::shuffle(&mut addresses);
    let (six, four): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| matches!(address.ip(), IpAddr::V6(_)));
    let longest = six.len().max(four.len());
    let turn = |at: usize| [six.get(at).copied(), four.get(at).copied()];
    (0..longest).flat_map(turn).flatten().take(MOST_ADDRESSES).collect()
}

/// Tries one address after the other, the next when the last one failed or hesitates; the first
/// connection wins.
async fn race<A, T, F>(addresses: Vec<A>, connect: impl Fn(A) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    if let Some(address) = waiting.next() {
        running.push(connect(address));
    }
    while !running.is_empty() {
        let hesitates = tokio::time::sleep(STAGGER);
        tokio::select! {
            outcome = running.next() => match outcome {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => last = error,
                None => {}
            },
            () = hesitates, if waiting.len() > 0 => {}
        }
        if let Some(address) = waiting.next() {
            running.push(connect(address));
        }
    }
    Err(last)
}

/// Time for one attempt: resolving, connecting and the proxy each.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// The cloud always reads.
const UNREAD: Duration = Duration::from_secs(20);
/// RFC 8305 §5 recommends 250 ms.
const STAGGER: Duration = Duration::from_millis(250);
const MOST_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use socket2::SockRef;
    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_hesitates_does_not_keep_the_next_one_waiting() {
        let begun = Instant::now();
        let tried = RefCell::new(vec![]);
        let outcome = race(vec!["black hole", "refuses", "answers"], |name| {
            tried.borrow_mut().push((name, begun.elapsed().as_millis()));
            async move {
                match name {
                    "black hole" => std::future::pending().await,
                    "refuses" => Err(io::ErrorKind::ConnectionRefused.into()),
                    other => Ok(other),
                }
            }
        });
        assert_eq!(outcome.await.unwrap(), "answers");
        assert_eq!(*tried.borrow(), [("black hole", 0), ("refuses", 250), ("answers", 250)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_still_wins_when_it_answers_first() {
        let outcome = race(vec![400, 10_000], |delay| async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            Ok(delay)
        });
        assert_eq!(outcome.await.unwrap(), 400);
    }

    #[tokio::test]
    async fn every_address_is_tried_and_the_last_error_told() {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let stream = race(vec![free(), free(), good], TcpStream::connect).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = race(vec![free(), free()], TcpStream::connect).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn families_take_turns_and_nothing_is_lost() {
        let list: Vec<SocketAddr> = ["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "[::1]:1", "[::2]:1"]
            .map(|text| text.parse().unwrap())
            .into();
        let turns = in_turns(list.clone());
        assert_eq!(
            turns.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(),
            [true, false, true, false, false]
        );
        assert!(list.iter().all(|address| turns.contains(address)));
        assert_eq!(in_turns(vec![list[0]; 100]).len(), MOST_ADDRESSES);
    }

    #[tokio::test]
    async fn a_cloud_that_takes_nothing_for_20_s_is_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let stream = dial(&server, &WayOut::default()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
    }

    #[tokio::test]
    async fn a_machine_with_several_ways_out_takes_the_named_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let by = |from: &str| WayOut { from: Some(from.parse().unwrap()), ..WayOut::default() };
        let stream = dial(&server, &by("127.0.0.9")).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        for not_here in ["192.0.2.7", "::1"] {
            let error = dial(&server, &by(not_here)).await.unwrap_err().to_string();
            assert!(error.contains(&format!("not from {not_here} (see `bind`)")), "{error}");
        }
    }
}
