//! One stream to a service of a device that is connected here.

use std::sync::atomic::Ordering;

use model::Target;
use tcpmux_proto::{BoxFuture, Destination, Dialer, OpenError, StreamHeader, StreamKind, TunnelStream};

use crate::{TunnelServer, counts};

impl Dialer for TunnelServer {
    fn open<'a>(
        &'a self,
        target: &'a Target,
        header: StreamHeader,
    ) -> BoxFuture<'a, Result<TunnelStream, OpenError>> {
        Box::pin(self.open_now(target, header))
    }
}

impl TunnelServer {
    async fn open_now(&self, target: &Target, mut header: StreamHeader) -> Result<TunnelStream, OpenError> {
        // The target was decided on; what the header says beside it does not count.
        if header.kind != StreamKind::Agent {
            header.service = Destination::Service(target.service.clone());
        }
        header.deadline = header.deadline.min(self.config.open_deadline);
        let opened = self.open_on_session(target, header).await;
        counts::opened(match &opened {
            Ok(_) => "opened",
            Err(OpenError::Offline) => "offline",
            Err(OpenError::Draining) => "draining",
            Err(OpenError::Busy) => "busy",
            Err(_) => "failed",
        });
        opened
    }

    async fn open_on_session(
        &self,
        target: &Target,
        header: StreamHeader,
    ) -> Result<TunnelStream, OpenError> {
        if self.draining.borrow().is_some() {
            return Err(OpenError::Draining);
        }
        if self.held.load(Ordering::Relaxed) > self.config.held_bytes {
            return Err(OpenError::Busy);
        }
        let (session, pending) = self.sessions.reach(&target.device).ok_or(OpenError::Offline)?;
        let waiting = pending.turn(&header.service).await.ok_or(OpenError::Busy)?;
        match session.open(header) {
            Ok(stream) => Ok(stream.until_answered(waiting)),
            // The session has just ended: nothing was sent, so the device is simply not connected.
            Err(OpenError::Lost) => Err(OpenError::Offline),
            Err(error) => Err(error),
        }
    }
}
