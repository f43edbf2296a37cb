//! One request over one stream, and the head of its answer.
//!
//! Nothing is pooled: the connection inside the stream serves this request alone and ends with it, so that two
//! users can never meet in one (see ARCHITECTURE, invariant 11).

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::Poll,
};

use bytes::Bytes;
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, uri::PathAndQuery};
use http_body::{Body, Frame};
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

/// The answer of a device: its head, what came of the body together with it, and the line that the rest follows on.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) first: Option<hyper::Result<Frame<Bytes>>>,
    pub(crate) line: Line,
}

/// What has to be polled so that HTTP goes on in the stream. Dropped, it resets the stream.
type Driving = Fuse<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Sends the request and waits for the head of the answer. The body follows as long as the line stands.
///
/// Until then the connection inside the stream is driven here: an answer that comes whole with its head, as most small
/// ones do, costs no task of its own and no trip to another thread.
pub(crate) async fn exchange(
    around: &Arc<Surroundings>,
    stream: TunnelStream,
    mut outgoing: Outgoing,
    shape: &Shape,
    lease: Lease,
) -> Result<Answer, Refusal> {
    let cut = Arc::default();
    let (mut sender, mut driving) = connect(around, stream, lease, Arc::clone(&cut)).await?;
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
    let mut response = loop {
        let deadline = progress.last() + around.timeouts.head;
        tokio::select! {
            biased;
            // First what brings the answer, so that both are seen in one turn.
            () = &mut driving => (),
            response = &mut answered => break response.map_err(|error| refusal(&error, &cut))?,
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
    let first = match shape.exchange {
        Exchange::Plain => came_along(response.body_mut(), &mut driving).await,
        Exchange::WebSocket => None,
    };
    let is_whole = response.body().is_end_stream() && response.status() != StatusCode::SWITCHING_PROTOCOLS;
    // Whatever is still to come must come, and end with its lease, also while nobody reads it.
    let goes_on = !is_whole && !driving.is_terminated();
    let task = goes_on.then(|| around.tasks.spawn(driving).abort_handle());
    Ok(Answer { response, first, line: Line::new(task, cut) })
}

/// The first part of the body, if it is there already.
async fn came_along(body: &mut Incoming, driving: &mut Driving) -> Option<hyper::Result<Frame<Bytes>>> {
    if body.is_end_stream() {
        return None;
    }
    poll_fn(|cx| {
        let mut body = Pin::new(&mut *body);
        let mut frame = body.as_mut().poll_frame(cx);
        // Asked for, it is handed over by whoever drives the connection.
        if frame.is_pending() {
            let _ = driving.poll_unpin(cx);
            frame = body.poll_frame(cx);
        }
        Poll::Ready(match frame {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        })
    })
    .await
}

/// Begins HTTP/1.1 on the stream. What has to be driven ends with the lease.
async fn connect(
    around: &Arc<Surroundings>,
    stream: TunnelStream,
    lease: Lease,
    cut: Arc<OnceLock<LeaseEnd>>,
) -> Result<(SendRequest<Upload>, Driving), Refusal> {
    let connected = Builder::new().max_buf_size(BUFFER).handshake::<_, Upload>(TokioIo::new(stream)).await;
    let (sender, connection) = connected.map_err(|error| answer::of_http(&error))?;
    let around = Arc::clone(around);
    let driving = async move {
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            biased;
            end = lease::ended(&lease, &around.registry, &around.clock) => {
                // Before the connection is dropped, so that whoever then meets its end knows why.
                let _ = cut.set(end);
            }
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "the connection inside a stream ended");
                }
            }
        }
    };
    let driving: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(driving);
    Ok((sender, driving.fuse()))
}

fn refusal(error: &hyper::Error, cut: &OnceLock<LeaseEnd>) -> Refusal {
    match cut.get() {
        Some(end) => Refusal::new(Code::NotGranted, end.as_str()),
        None => answer::of_http(error),
    }
}

/// What hyper may hold of one stream in each direction; a response head has to fit.
const BUFFER: usize = 64 * 1024;
