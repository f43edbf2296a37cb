//! A tunnel over a pipe in memory, the request whose cost is counted, and what is said of a count.

#![allow(clippy::unwrap_used, reason = "a test that fails is a failing test")]

use tcpmux_proto::{
    Buffered, Driver, StreamKind,
    testing::{Pair, header},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinSet,
};

pub(crate) struct Tunnel {
    pair: Pair,
    _drivers: JoinSet<()>,
}

impl Tunnel {
    pub(crate) async fn new() -> Self {
        let mut drivers = JoinSet::new();
        let spawn = |driver: Driver<Buffered<DuplexStream>>| {
            drivers.spawn(async { drop(driver.await) });
        };
        let pair = Pair::new(spawn).await;
        Self { pair, _drivers: drivers }
    }

    /// A stream with a small request and a small answer, ended by both.
    pub(crate) async fn request(&mut self) {
        let mut cloud = self.pair.cloud.open(header("web", StreamKind::Tcp)).unwrap();
        let exchange = async {
            cloud.write_all(&[7; 100]).await.unwrap();
            cloud.shutdown().await.unwrap();
            let mut answer = [0; 200];
            cloud.read_exact(&mut answer).await.unwrap();
            assert_eq!(cloud.read(&mut answer).await.unwrap(), 0);
        };
        let serve = async {
            let mut device = self.pair.device.incoming.next().await.unwrap().accept().await;
            let mut request = [0; 100];
            device.read_exact(&mut request).await.unwrap();
            device.write_all(&[8; 200]).await.unwrap();
            device.shutdown().await.unwrap();
            assert_eq!(device.read(&mut request).await.unwrap(), 0);
        };
        tokio::join!(exchange, serve);
    }
}

pub(crate) fn within(what: &str, counted: f64, bound: f64) {
    assert!(counted > 0.0, "{what}: nothing was counted");
    let most = bound * 1.2;
    assert!(
        counted <= most,
        "{what}: {counted:.1}, {most:.1} at most (counted when the bound was set: {bound:.1}). See the head of this \
         test for what to do."
    );
}
