//! One HTTP connection: protocol by ALPN, timers and bounds set, graceful at the end.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::{Code, Refusal};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::problem::problem;
use crate::{RequestBody, Tasks, inline::Inline};

/// What is known of the connection that a request came on. Every request carries it as an extension.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The caller's address.
    pub peer: SocketAddr,
    /// The client's certificates, leaf first; empty if it showed none.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// The protocol that ALPN chose.
    pub alpn: Option<Arc<[u8]>>,
}

impl ConnectionInfo {
    /// What TLS knows of this connection.
    pub fn of<T>(tls: &tokio_rustls::server::TlsStream<T>, peer: SocketAddr) -> Self {
        let connection = tls.get_ref().1;
        let certificates = connection.peer_certificates().unwrap_or_default();
        Self {
            peer,
            certificates: certificates.iter().map(|one| one.clone().into_owned()).collect(),
            alpn: connection.alpn_protocol().map(Arc::from),
        }
    }
}

/// How a door speaks HTTP.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// `Content-Type` instead of `content-type`: some EST clients compare it so.
    pub title_case_headers: bool,
    /// From the first byte of a request to the end of its head, and how long a connection may idle.
    pub head_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { title_case_headers: false, head_timeout: Duration::from_secs(10) }
    }
}

/// Serves requests until the connection ends. When draining begins, the live requests are finished.
///
/// Heads over 64 KiB or 100 fields get 431; far larger ones are not read to their end and get it
/// without a body. An upgrade is possible on HTTP/1.1. What is left of a body that nobody wants is thrown away.
pub async fn serve_connection<I, S, F>(
    io: I,
    info: ConnectionInfo,
    options: ServeOptions,
    tasks: &Tasks,
    serve: S,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<RequestBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let peer = info.peer;
    let is_http2 = info.alpn.as_deref() == Some(b"h2");
    let bodies = tasks.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = RequestBody::of(request, &bodies);
        request.extensions_mut().insert(info.clone());
        let answer = if head_size(&request) > HEAD_MOST || request.headers().len() > FIELDS_MOST {
            Err(problem(&Refusal::new(
                Code::HeadersTooLarge,
                "the request head has at most 64 KiB and 100 fields",
            )))
        } else {
            Ok(serve(request))
        };
        async move {
            match answer {
                Ok(answer) => Ok::<_, Infallible>(answer.await),
                Err(refused) => Ok(refused),
            }
        }
    });
    let draining = tasks.draining();
    let outcome = if is_http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .max_header_list_size(2 * HEAD_MOST as u32)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_send_buf_size(128 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(io), service);
        until_drained(connection, &draining, |connection| connection.graceful_shutdown()).await
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.head_timeout)
            .max_buf_size(2 * HEAD_MOST)
            .max_headers(2 * FIELDS_MOST)
            .title_case_headers(options.title_case_headers)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        until_drained(connection, &draining, |connection| connection.graceful_shutdown()).await
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "HTTP connection ended");
    }
}

/// The kinds of connections have their own `graceful_shutdown` each.
async fn until_drained<C: Future>(
    connection: C,
    draining: &CancellationToken,
    shut_down: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    // The two ends of a forwarded message wake each other within one task.
    let served = async {
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = draining.cancelled() => {
                shut_down(connection.as_mut());
                connection.await
            }
        }
    };
    Inline::new(served).await
}

/// Roughly what the head of a request had on the wire.
fn head_size<T>(request: &Request<T>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    fields.sum::<usize>() + target + 16
}

const HEAD_MOST: usize = 64 * 1024;
const FIELDS_MOST: usize = 100;
