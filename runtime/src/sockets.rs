//! The options of every TCP socket here, accepted or dialled.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Sets them: no delay (Nagle), little that waits unsent, and a dead peer noticed beneath the protocol, by three probes
/// 5 s apart after 15 s of silence, and when it leaves what we sent `unread` or unacknowledged for so long (RFC 9293
/// §3.8.6.1 leaves that to the application).
///
/// # Errors
/// The system's error.
pub fn tune(socket: &TcpStream, unread: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(unread))
}

/// Bytes that may wait unsent in the kernel before the socket takes no more: what stands there can no longer be
/// overtaken by what is urgent. Two of the largest writes, so that the kernel never runs dry.
const UNSENT: u32 = 128 * 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_how_long_a_peer_may_be_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream, Duration::from_secs(20)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
    }
}
