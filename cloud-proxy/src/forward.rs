//! One request over one stream, and the head of its answer.
//!
//! Nothing is pooled: the connection inside the stream serves this request alone and ends with it, so that two
//! users can never meet in one (see ARCHITECTURE, invariant 11).

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, uri::PathAndQuery};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use model::{Code, Refusal};
use tcpmux_proto::TunnelStream;
use tokio::{sync::Notify, time::sleep_until};

use crate::{
    admit::{Lease, LeaseEnd},
    answer,
    download::Line,
    lease,
    request::{Exchange, Shape},
    surroundings::Surroundings,
    upload::Upload,
};

/// A request, ready to be written to the device.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Upload,
}

/// Sends the request and waits for the head of the answer. The body follows as long as the line stands.
pub(crate) async fn exchange(
    around: &Arc<Surroundings>,
    stream: TunnelStream,
    mut outgoing: Outgoing,
    shape: &Shape,
    lease: Lease,
) -> Result<(Response<Incoming>, Line), Refusal> {
    let (mut sender, line) = connect(around, stream, lease).await?;
    let told = Arc::new(Notify::new());
    if shape.expects_continue {
        outgoing.body.hold_until(Arc::clone(&told));
    }
    let progress = outgoing.body.progress();
    let mut request = Request::new(outgoing.body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = Uri::from(outgoing.path);
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = outgoing.headers;
    if shape.expects_continue {
        hyper::ext::on_informational(&mut request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                told.notify_one();
            }
        });
    }
    let mut answered = pin!(sender.send_request(request));
    let response = loop {
        let deadline = progress.last() + around.timeouts.head;
        tokio::select! {
            biased;
            response = &mut answered => break response.map_err(|error| refusal(&error, &line))?,
            () = sleep_until(deadline) => {
                if progress.last() + around.timeouts.head <= deadline {
                    return Err(Refusal::new(Code::TimedOut, "the device's service did not answer in time"));
                }
            }
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && shape.exchange != Exchange::WebSocket {
        return Err(Refusal::new(
            Code::ServiceRefused,
            "the device's service switched protocols without being asked",
        ));
    }
    Ok((response, line))
}

/// Begins HTTP/1.1 on the stream, in a task that ends with the lease.
async fn connect(
    around: &Arc<Surroundings>,
    stream: TunnelStream,
    lease: Lease,
) -> Result<(SendRequest<Upload>, Line), Refusal> {
    let connected = Builder::new().max_buf_size(BUFFER).handshake::<_, Upload>(TokioIo::new(stream)).await;
    let (sender, connection) = connected.map_err(|error| answer::of_http(&error))?;
    let cut: Arc<OnceLock<LeaseEnd>> = Arc::default();
    let (around_task, cut_here) = (Arc::clone(around), Arc::clone(&cut));
    let task = around.tasks.spawn(async move {
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "the connection inside a stream ended");
                }
            }
            end = lease::ended(&lease, &around_task.registry, &around_task.clock) => {
                // Before the connection is dropped, so that whoever then meets its end knows why.
                let _ = cut_here.set(end);
            }
        }
    });
    Ok((sender, Line::new(task.abort_handle(), cut)))
}

fn refusal(error: &hyper::Error, line: &Line) -> Refusal {
    match line.cut() {
        Some(end) => Refusal::new(Code::NotGranted, end.as_str()),
        None => answer::of_http(error),
    }
}

/// What hyper may hold of one stream in each direction; a response head has to fit.
const BUFFER: usize = 64 * 1024;
