//! The device's end: answers every stream as its first byte asks.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use runtime::{Records, records};
use rustls_pki_types::ServerName;
use tcpmux_proto::{Hello, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::{Kind, cables::Cables, pair::Pipe};
use crate::backend::spawn;

/// What a stream asks for with its first byte.
pub(super) const ECHO: u8 = b'E';
pub(super) const DOWN: u8 = b'D';
pub(super) const UP: u8 = b'U';
/// How much is written and read at a time.
pub(super) const PIECE: usize = 64 * 1024;

/// Connects `count` times and answers until every connection has ended.
pub(super) async fn serve(kind: Kind, count: usize, cloud: SocketAddr, cables: Cables) {
    let mut connections = JoinSet::new();
    for _ in 0..count {
        let socket = TcpStream::connect(cloud).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (connector, name) = (&cables.connector, ServerName::try_from("localhost").unwrap());
        match kind {
            Kind::Tcp => connections.spawn(answer(Box::new(socket))),
            Kind::Tls => connections.spawn(answer(Box::new(connector.connect(name, socket).await.unwrap()))),
            Kind::Yamux => connections.spawn(yamux(connector.connect(name, socket).await.unwrap())),
            Kind::Ours => {
                let config = Arc::clone(connector.config());
                let (records, _) = records::connect(socket, config, name).await.unwrap();
                connections.spawn(ours(records))
            }
        };
    }
    connections.join_all().await;
}

async fn yamux(tls: TlsStream<TcpStream>) {
    let mut connection = yamux::Connection::new(tls.compat(), yamux::Config::default(), yamux::Mode::Client);
    while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        spawn(answer(Box::new(stream.compat())));
    }
}

/// No `async fn`: what the driver has must not lie in this task too.
fn ours(records: Records<TcpStream>) -> impl Future<Output = ()> {
    let (driver, handshake) = tcpmux_proto::device(records, Settings::default());
    spawn(driver.map(drop));
    let hello = Hello {
        agent_version: "1".into(),
        boot_id: "bench".into(),
        slot: 0,
        features: Vec::new(),
        claim_digest: None,
        services: Vec::new(),
    };
    async move {
        // Boxed, as what is over before the session stands.
        let mut greeted = Box::pin(handshake.greet(hello, Duration::from_secs(5))).await.unwrap();
        while let Some(stream) = greeted.incoming.next().await {
            spawn(async { answer(Box::new(stream.accept().await)).await });
        }
    }
}

async fn answer(mut pipe: Pipe) {
    let mut buffer = [0; 1024];
    let Ok(1..) = pipe.read(&mut buffer[..1]).await else { return };
    match buffer[0] {
        DOWN => {
            let piece = vec![0x5a; PIECE];
            while pipe.write_all(&piece).await.is_ok() {}
        }
        UP => {
            let mut piece = vec![0; PIECE];
            while let Ok(1..) = pipe.read(&mut piece).await {}
        }
        _ => {
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                if pipe.write_all(&buffer[..count]).await.is_err() || pipe.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}
