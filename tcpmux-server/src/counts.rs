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

/// How much there is now.
#[expect(clippy::cast_precision_loss, reason = "counts of sessions are far below 2^52")]
pub(crate) fn standing(sessions: usize, streams: usize) {
    metrics::gauge!("tcpmux_sessions").set(sessions as f64);
    metrics::gauge!("tcpmux_streams").set(streams as f64);
}
