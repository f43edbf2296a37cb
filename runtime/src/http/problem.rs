//! The one place where a [`Refusal`] becomes an HTTP answer (RFC 9457).

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use model::{Code, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

/// A refusal as answers show it (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "about:blank", "title": "Not Found", "status": 404,
    "detail": "there is no such device, or it was not granted to you", "code": "TMX-4030",
}))]
pub struct Problem {
    /// What kind of problem; `code` tells more.
    pub r#type: &'static str,
    /// What the status means.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The cause and, where there is one, the remedy, for people.
    pub detail: String,
    /// The cause, for programs: it stays the same between versions.
    #[schema(pattern = "^TMX-[0-9]{4}$")]
    pub code: &'static str,
    /// A word for programs, where one code has several causes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// A refusal as `application/problem+json`: `type`, `title`, `status`, `detail`, `code`.
pub fn problem(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: refusal.detail.clone().into_owned(),
        code: refusal.code.as_str(),
        reason: refusal.reason,
    };
    // A struct of texts and numbers always serializes.
    let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer when something here is broken: the log gets the cause, the caller a bare 500.
pub fn fault(doing: &str, error: &dyn std::fmt::Display) -> Response<Body> {
    tracing::error!(doing, %error, "internal fault");
    problem(&Refusal::new(Code::Internal, "something here is broken; the server's log says what"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_a_problem_document() {
        let response = problem(&Refusal::new(Code::DeviceOffline, "cam-01 is not connected").retry_after(5));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "TMX-3001");
        assert_eq!(body["status"], 503);
    }

    #[tokio::test]
    async fn a_fault_does_not_tell_its_cause() {
        let body = fault("reading", &"table users is locked").into_body();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("users"));
    }
}
