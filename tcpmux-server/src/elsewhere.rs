//! A device that came back through another node: its older session here ends.

use std::sync::Arc;

use registry::Superseded;
use tokio::sync::mpsc;

use crate::{TunnelServer, sessions::Order};

impl TunnelServer {
    pub(crate) async fn give_way(self: Arc<Self>, mut superseded: mpsc::Receiver<Superseded>) {
        while let Some(Superseded { device, by }) = superseded.recv().await {
            if let Some(older) = self.sessions.take_if(&device, |live| live.generation < by) {
                tracing::info!(%device, generation = %older.generation, %by, "a newer session stands on another node");
                // It may be ending by itself already.
                let _ = older.order.send(Order::Replaced(by));
            }
        }
    }
}
