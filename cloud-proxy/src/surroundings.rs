//! What the proxy works with, and the one way in which it opens a stream.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use model::{Refusal, RequestId};
use registry::Registry;
use runtime::{Clock, Tasks};
use tcpmux_proto::{Destination, Dialer, OpenError, StreamHeader, StreamKind, TunnelStream};

use crate::{admit::Admission, answer};

/// The parts of the house that the proxy stands on.
pub(crate) struct Surroundings {
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) timeouts: Timeouts,
}

/// How long the proxy waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the device to open the local connection.
    pub open: Duration,
    /// For the head of the response, counted from the last progress of the request body.
    pub head: Duration,
    /// For any byte on an open WebSocket or raw stream.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { open: Duration::from_secs(5), head: Duration::from_secs(60), idle: Duration::from_secs(3600) }
    }
}

/// One caller's stream, as the device is told about it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) kind: StreamKind,
    pub(crate) request_id: &'a RequestId,
    pub(crate) trace_id: [u8; 16],
    pub(crate) peer: SocketAddr,
}

impl Surroundings {
    /// Opens the stream. The device's own answer comes later, with the first read or when it is asked for.
    pub(crate) async fn open(&self, call: &Call<'_>) -> Result<TunnelStream, Refusal> {
        let header = StreamHeader {
            kind: call.kind,
            service: Destination::Service(call.admission.target.service.clone()),
            deadline: self.timeouts.open,
            request_id: call.request_id.clone(),
            trace_id: call.trace_id,
            client: call.peer.to_string(),
            principal: call.admission.principal,
            level: call.admission.level,
            assertion: None,
        };
        let opening = self.dialer.open(&call.admission.target, header);
        let opened = tokio::time::timeout(self.timeouts.open, opening).await;
        opened.unwrap_or(Err(OpenError::TimedOut)).map_err(answer::of_open)
    }

    /// Opens the stream and waits until the local connection stands.
    pub(crate) async fn open_accepted(&self, call: &Call<'_>) -> Result<TunnelStream, Refusal> {
        let mut stream = self.open(call).await?;
        stream.accepted().await.map_err(answer::of_open)?;
        Ok(stream)
    }
}
