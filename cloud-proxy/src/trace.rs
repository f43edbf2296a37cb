//! The W3C trace context of a request: the client's continued where it is valid, a new one otherwise. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use model::{hex, unhex};

/// One hop of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The trace's id.
    pub(crate) id: [u8; 16],
    span: [u8; 8],
    flags: u8,
    /// Whether the client began it; then its `tracestate` belongs to it.
    pub(crate) continued: bool,
}

impl Trace {
    /// The trace that a request belongs to; random bytes are the caller's.
    pub(crate) fn of(headers: &HeaderMap, new_id: [u8; 16], span: [u8; 8]) -> Self {
        match client_trace(headers) {
            Some((id, flags)) => Self { id, span, flags, continued: true },
            None => Self { id: new_id, span, flags: 0, continued: false },
        }
    }

    /// The `traceparent` for the device.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!("00-{}-{}-{:02x}", hex(&self.id), hex(&self.span), self.flags);
        HeaderValue::from_str(&text).expect("hex digits and hyphens are a header value")
    }
}

/// Trace id and flags of the client's one valid `traceparent`.
fn client_trace(headers: &HeaderMap) -> Option<([u8; 16], u8)> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() || text.len() != 55 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let parts: Vec<&str> = text.split('-').collect();
    let ["00", id, parent, flags] = parts[..] else { return None };
    let id: [u8; 16] = unhex(id)?.try_into().ok()?;
    let parent: [u8; 8] = unhex(parent)?.try_into().ok()?;
    let flags = *unhex(flags)?.first()?;
    (id != [0; 16] && parent != [0; 8]).then_some((id, flags & SAMPLED))
}

/// The header of the trace (W3C Trace Context §3.2).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it; only sense with the trace that it came with.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(values: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        Trace::of(&headers, [7; 16], [9; 8])
    }

    #[test]
    fn a_valid_trace_is_continued_with_a_span_of_ours() {
        let trace = trace(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]);
        assert!(trace.continued);
        assert_eq!(trace.header(), "00-0af7651916cd43dd8448eb211c80319c-0909090909090909-01");
    }

    #[test]
    fn anything_else_begins_a_new_trace() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for bad in [
            vec![],
            vec![good, good],
            vec!["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            vec!["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            vec!["00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            vec!["x"],
        ] {
            let trace = trace(&bad);
            assert!(!trace.continued, "{bad:?}");
            assert_eq!(trace.header(), format!("00-{}-{}-00", "07".repeat(16), "09".repeat(8)));
        }
    }
}
