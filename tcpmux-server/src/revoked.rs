//! Orders to close the tunnels of a revoked device, carried out and acknowledged.

use std::{sync::Arc, time::Duration};

use model::DisconnectCause;
use registry::{RevocationNotice, RevocationOrder};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    TunnelServer,
    sessions::{Live, Order},
};

impl TunnelServer {
    pub(crate) async fn carry_out_revocations(self: Arc<Self>, mut orders: mpsc::Receiver<RevocationOrder>) {
        while let Some(RevocationOrder { notice, done }) = orders.recv().await {
            // Taken out at once and in order; only the farewell goes on beside the next order.
            let live = self.take_revoked(&notice);
            let server = Arc::clone(&self);
            self.tasks.spawn(async move {
                let closed = match live {
                    Some(live) => server.close_revoked(live, notice.sequence).await,
                    None => 0,
                };
                // Who asked may have stopped waiting.
                let _ = done.send(closed);
            });
        }
    }

    /// The device's session, if it stands on a certificate that was revoked or that is not admitted any
    /// more for another reason.
    fn take_revoked(&self, notice: &RevocationNotice) -> Option<Live> {
        let now = self.clock.now();
        self.sessions.take_if(&notice.device, |live| {
            notice.certificates.contains(&live.presented.fingerprint)
                || self.admission.admit(&live.presented, now).is_err()
        })
    }

    async fn close_revoked(&self, live: Live, sequence: u64) -> usize {
        let Live { presented, generation, handle, order, .. } = live;
        let _ = order.send(Order::End(DisconnectCause::Revoked));
        if timeout(FAREWELL, handle.closed()).await.is_err() {
            handle.close(DisconnectCause::Revoked);
            handle.closed().await;
        }
        self.registry.disconnect(&presented.device, generation).await;
        tracing::info!(
            device = %presented.device,
            certificate = %presented.fingerprint,
            sequence,
            "tunnel of a revoked certificate closed"
        );
        1
    }
}

/// How long the tunnel may live on for the sake of a named end.
const FAREWELL: Duration = Duration::from_millis(400);
