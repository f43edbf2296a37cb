//! Published ports: raw TCP to one service, for clients that speak neither HTTP nor WebSocket.
//!
//! There is no token here: the operator's configuration names who may connect, by network, loopback alone by
//! default.

use std::{net::SocketAddr, sync::Arc};

use ipnet::IpNet;
use model::{RequestId, Target};
use runtime::random;
use tcpmux_proto::{Duplex, StreamKind};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    account::{Account, End, TCP},
    admit::Admission,
    download::with_causes,
    splice::{SpliceEnd, splice_raw},
    surroundings::{Call, Surroundings},
};

/// What a published port leads to, and who may use it.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// The service.
    pub target: Target,
    /// The networks that may connect; empty for loopback alone.
    pub allow: Vec<IpNet>,
}

impl PublishConfig {
    fn allows(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        if self.allow.is_empty() {
            address.is_loopback()
        } else {
            self.allow.iter().any(|net| net.contains(&address))
        }
    }
}

/// Serves a published port until draining begins.
pub(crate) async fn publish(around: Arc<Surroundings>, listener: TcpListener, config: PublishConfig) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let config = Arc::new(config);
    let tasks = around.tasks.clone();
    runtime::listen::accept(listener, &tasks, |socket, peer| {
        if !config.allows(peer) {
            tracing::warn!(%peer, target = %config.target, "refused at a published port: not in the allow list");
            return reset(socket);
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, target = %config.target, "refused at a published port: too many connections");
            return reset(socket);
        };
        let (around, config) = (Arc::clone(&around), Arc::clone(&config));
        tasks.spawn(async move {
            serve(&around, socket, peer, &config).await;
            drop(place);
        });
    })
    .await;
}

async fn serve(around: &Surroundings, mut client: TcpStream, peer: SocketAddr, config: &PublishConfig) {
    let request_id = RequestId::from_random(random::bytes());
    let mut account = Account::begin(request_id.clone(), peer, TCP, "");
    let admission = Admission::published(config.target.clone());
    account.admitted(&admission);
    let call = Call {
        admission: &admission,
        kind: StreamKind::Tcp,
        request_id: &request_id,
        trace_id: random::bytes(),
        peer,
    };
    let device = match around.open_accepted(&call).await {
        Ok(stream) => Duplex::new(stream),
        Err(refusal) => {
            account.refused(&refusal);
            return reset(client);
        }
    };
    let bytes = account.bytes();
    let end = match splice_raw(&mut client, &device, around.timeouts.idle, &bytes).await {
        SpliceEnd::Finished => End::Complete,
        SpliceEnd::Client => End::ClientGone,
        SpliceEnd::Device(error) => End::Broken(with_causes(&error)),
        SpliceEnd::Idle => End::Cut("nothing was said for too long"),
    };
    if end == End::Complete {
        let _ = client.shutdown().await;
    } else {
        // Only a device that finished is an end of file; anything else must look like the failure it is.
        reset(client);
    }
    account.ended(end);
}

/// Closes with RST.
fn reset(socket: TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        tracing::debug!(%error, "a connection could not be reset");
    }
}

/// Connections of one published port at once.
const CONNECTIONS: usize = 1024;
