//! What is counted. No label ever names a device.

use model::DisconnectCause;

/// A connection that did not become a session.
pub(crate) fn session_refused(cause: &'static str) {
    metrics::counter!("tcpmux_sessions_refused_total", "cause" => cause).increment(1);
}

/// A session that ended.
pub(crate) fn session_ended(cause: DisconnectCause) {
    metrics::counter!("tcpmux_sessions_ended_total", "cause" => cause.as_str()).increment(1);
}

/// A stream that somebody wanted.
pub(crate) fn opened(outcome: &'static str) {
    metrics::counter!("tcpmux_stream_opens_total", "outcome" => outcome).increment(1);
}

/// Sessions that stand now.
pub(crate) fn sessions(count: usize) {
    metrics::gauge!("tcpmux_sessions").set(gauge(count));
}

/// Streams that are open now.
pub(crate) fn streams(count: usize) {
    metrics::gauge!("tcpmux_streams").set(gauge(count));
}

/// Bytes that streams hold because somebody does not read.
pub(crate) fn held_bytes(count: usize) {
    metrics::gauge!("tcpmux_held_bytes").set(gauge(count));
}

fn gauge(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
