//! What answers have in common: JSON that nobody stores, pages, and faults of the store.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::CACHE_CONTROL};
use model::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use store::StoreError;

/// 200 with a body.
pub(crate) fn ok(body: Value) -> Response {
    with(StatusCode::OK, body)
}

/// A status with a body.
pub(crate) fn with(status: StatusCode, body: Value) -> Response {
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
}

/// 204.
pub(crate) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// A page of a list, and where the next one begins.
pub(crate) fn page(items: Vec<Value>, next_cursor: Option<String>) -> Response {
    ok(json!({"items": items, "next_cursor": next_cursor}))
}

/// Which page is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Paging {
    /// The `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
    limit: Option<u32>,
}

impl Paging {
    /// How many items a page has: 100 where nothing was asked.
    pub(crate) fn limit(&self) -> Result<u32, Refusal> {
        match self.limit {
            None => Ok(100),
            Some(limit @ 1..=MOST_ITEMS) => Ok(limit),
            Some(_) => Err(Refusal::new(Code::BadRequest, "limit: from 1 to 500")),
        }
    }

    /// The cursor as what it was made of.
    pub(crate) fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Refusal> {
        let bad = |_| Refusal::new(Code::BadRequest, "cursor: take the `next_cursor` of the page before");
        self.cursor.as_deref().map(|text| text.parse().map_err(|_: T::Err| ()).map_err(bad)).transpose()
    }
}

/// What the store says no to, as a refusal. Only the log gets the cause of a fault.
pub(crate) fn fault(doing: &str, error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound(what) => Refusal::new(Code::NotFound, format!("there is no such {what}")),
        StoreError::Conflict { what } => Refusal::new(Code::Conflict, what),
        error if error.is_passing() => {
            tracing::warn!(doing, %error, "the store does not answer");
            Refusal::new(Code::Unavailable, "this is not possible just now; try again").retry_after(5)
        }
        error => {
            tracing::error!(doing, %error, "internal fault");
            Refusal::new(Code::Internal, "something here is broken; the server's log says what")
        }
    }
}

const MOST_ITEMS: u32 = 500;
