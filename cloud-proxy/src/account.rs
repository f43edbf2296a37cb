//! What is written down about a request: one line in the access log (target `access`), a few counters.
//!
//! The path goes without its query, which may hold secrets, and is cut to a bound. No counter has a label with
//! a device, a user or a path in it: label sets must stay small however many devices there are.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{StatusCode, request::Parts};
use metrics::{counter, gauge, histogram};
use model::{Refusal, RequestId, Target};
use tokio::time::Instant;

use crate::{admit::Admission, target::Form};

/// The account of one request. Its line is written when it is dropped, whatever the way there was.
#[derive(Debug)]
pub(crate) struct Account {
    request_id: RequestId,
    begun: Instant,
    peer: SocketAddr,
    method: String,
    path: String,
    form: Option<Form>,
    target: Option<Target>,
    subject: Option<String>,
    status: Option<StatusCode>,
    code: Option<&'static str>,
    bytes: Arc<Bytes>,
    end: End,
}

/// Bytes of bodies and raw streams, as they pass.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    up: AtomicU64,
    down: AtomicU64,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The client went away first. So it stays for an account that is dropped with its request.
    ClientGone,
    /// Both sides had all of it.
    Complete,
    /// Refused before the device was asked, or by the device before the head.
    Refused,
    /// Cut by us, with the reason.
    Cut(&'static str),
    /// The device's side broke after the head; the client connection was aborted.
    Broken(String),
}

impl Account {
    /// Begins the account of a request.
    pub(crate) fn begin(request_id: RequestId, peer: SocketAddr, method: &str, path: &str) -> Self {
        gauge!("tcpmux_proxy_requests_live").increment(1.0);
        Self {
            request_id,
            begun: Instant::now(),
            peer,
            method: capped(method, 32),
            path: capped(path, PATH_LENGTH),
            form: None,
            target: None,
            subject: None,
            status: None,
            code: None,
            bytes: Arc::default(),
            end: End::ClientGone,
        }
    }

    /// Begins the account of an HTTP request.
    pub(crate) fn of_request(request_id: RequestId, peer: SocketAddr, parts: &Parts) -> Self {
        Self::begin(request_id, peer, parts.method.as_str(), parts.uri.path())
    }

    /// Notes how the target was named.
    pub(crate) fn form(&mut self, form: Form) {
        self.form = Some(form);
    }

    /// Notes who was admitted, and where to.
    pub(crate) fn admitted(&mut self, admission: &Admission) {
        self.target = Some(admission.target.clone());
        self.subject = Some(capped(&admission.subject, 255));
    }

    /// Notes a no.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.status = StatusCode::from_u16(refusal.http_status()).ok();
        self.code = Some(refusal.code.as_str());
        self.end = End::Refused;
    }

    /// Notes the device's answer.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        histogram!("tcpmux_proxy_head_seconds").record(self.begun.elapsed().as_secs_f64());
    }

    /// Notes how it ended.
    pub(crate) fn ended(&mut self, end: End) {
        self.end = end;
    }

    /// Where bytes are counted.
    pub(crate) fn bytes(&self) -> Arc<Bytes> {
        Arc::clone(&self.bytes)
    }
}

impl Bytes {
    /// Toward the device.
    pub(crate) fn up(&self, count: usize) {
        self.up.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Toward the client.
    pub(crate) fn down(&self, count: usize) {
        self.down.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (up, down) = (self.bytes.up.load(Ordering::Relaxed), self.bytes.down.load(Ordering::Relaxed));
        let form = self.form.map_or("none", Form::as_str);
        gauge!("tcpmux_proxy_requests_live").decrement(1.0);
        counter!("tcpmux_proxy_requests_total", "form" => form, "class" => class(self.status), "end" => self.end.as_str())
            .increment(1);
        counter!("tcpmux_proxy_bytes_total", "direction" => "up").increment(up);
        counter!("tcpmux_proxy_bytes_total", "direction" => "down").increment(down);
        tracing::info!(
            target: "access",
            request_id = %self.request_id,
            peer = %self.peer,
            method = %self.method.escape_debug(),
            path = %self.path.escape_debug(),
            form,
            device = self.target.as_ref().map(|target| tracing::field::display(&target.device)),
            service = self.target.as_ref().map(|target| tracing::field::display(&target.service)),
            user = self.subject.as_ref().map(|subject| tracing::field::display(subject.escape_debug())),
            status = self.status.map(|status| status.as_u16()),
            code = self.code,
            up,
            down,
            ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            end = self.end.as_str(),
            reason = self.end.reason(),
            "request"
        );
    }
}

impl End {
    fn as_str(&self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::Cut(_) => "cut",
            Self::Broken(_) => "broken",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Cut(reason) => Some(reason),
            Self::Broken(reason) => Some(reason),
            _ => None,
        }
    }
}

fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}

fn capped(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

/// The word of a raw connection in the place of a method.
pub(crate) const TCP: &str = "TCP";
const PATH_LENGTH: usize = 256;
