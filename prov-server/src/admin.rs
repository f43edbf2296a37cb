//! What the admin routes share: whose tenant is meant, pages, and answers.

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use model::{Code, Refusal, TenantName};
use serde::{Deserialize, Serialize};
use store::StoreError;

/// The query of every admin route that concerns one tenant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantQuery {
    #[serde(default)]
    pub(crate) tenant: TenantName,
}

/// The query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    #[serde(default)]
    pub(crate) tenant: TenantName,
    /// Where the page before ended.
    pub(crate) cursor: Option<String>,
    #[serde(default = "usual_page")]
    limit: u32,
}

impl PageQuery {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.clamp(1, LONGEST_PAGE)
    }

    pub(crate) fn bad_cursor() -> Refusal {
        Refusal::new(Code::BadRequest, "the cursor is not one that a page before gave")
    }
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_cursor: Option<String>,
}

/// A JSON answer that nobody keeps.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let Ok(text) = serde_json::to_string(body) else {
        return runtime::http::fault("writing JSON", &"a value does not serialize");
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What an operator is told when the store says no.
pub(crate) fn store_problem(error: &StoreError) -> Response<Body> {
    let refusal = match error {
        StoreError::NotFound(what) => Refusal::new(Code::NotFound, format!("no such {what}")),
        StoreError::Conflict { what } => Refusal::new(Code::Conflict, *what),
        passing if passing.is_passing() => {
            tracing::warn!(%error, "the store is not available to the admin door");
            Refusal::new(Code::Unavailable, "the database is not available; nothing was changed")
                .retry_after(5)
        }
        broken => return runtime::http::fault("answering an operator", broken),
    };
    runtime::http::problem(&refusal)
}

fn usual_page() -> u32 {
    100
}

const LONGEST_PAGE: u32 = 1000;
