//! Names of states, and changes only to the state that the caller has read (RFC 9110 §8.8.3, §13.1.1; RFC 6585 §3).

use axum::response::Response;
use http::{HeaderValue, header::ETAG};
use model::{Code, Refusal};

/// An answer with the name of the state that it shows: hex digits and `-` between quotes.
pub(crate) fn tagged(mut response: Response, tag: &str) -> Response {
    let tag = HeaderValue::from_str(tag).expect("digits between quotes are a header's value");
    response.headers_mut().insert(ETAG, tag);
    response
}

/// Whether `If-Match` names this state: `*` or a list, compared as strong validators.
///
/// Without it nothing is changed, so that nobody's change is lost unseen.
pub(crate) fn holds(condition: Option<&HeaderValue>, tag: &str) -> Result<bool, Refusal> {
    let condition = condition.ok_or(Refusal::new(
        Code::PreconditionMissing,
        "If-Match: send the ETag of what you have read, so that nobody's change is lost",
    ))?;
    let condition = condition.to_str().unwrap_or_default();
    Ok(condition.trim() == "*" || condition.split(',').any(|one| one.trim() == tag))
}
