//! The audit log, for operators: each row carries the hash of the one before.

use std::sync::Arc;

use axum::response::Response;
use model::{AdminActor, Refusal};
use runtime::http::{Caller, Page, Paging, Routes, ok};
use serde_json::json;

use crate::{
    api::Inner,
    call::{Call, handler},
};

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/admin/api/audit", Caller::Admin, handler(api, list))
}

/// `GET /admin/api/audit`, oldest first. The hash is over `at_ms`, not over its text.
pub(crate) async fn list(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, after) = (paging.limit()?, paging.after::<u64>()?.unwrap_or(0));
    let rows = api.store.audit(after, limit + 1).await;
    let rows = rows.map_err(|error| error.refusal("reading the audit log"))?;
    let shown = |row: store::AuditRow| {
        json!({
            "seq": row.seq,
            "at": row.at.rfc3339(),
            "at_ms": row.at.millis(),
            "actor": row.actor,
            "action": row.action,
            "object": row.object,
            "outcome": row.outcome,
            "detail": row.detail,
            "prev_hash": row.prev_hash,
            "hash": row.hash,
        })
    };
    Ok(ok(&Page::cut(rows, limit, |row| row.seq.to_string()).map(shown)))
}
