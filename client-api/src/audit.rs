//! The audit log, for operators: each row carries the hash of the one before.

use std::sync::Arc;

use axum::response::Response;
use model::{AdminActor, Refusal};
use serde_json::json;

use crate::{
    answer::{Paging, fault, page},
    api::Inner,
    call::Call,
};

/// `GET /admin/api/audit`, oldest first. The hash is over `at_ms`, not over its text.
pub(crate) async fn list(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, after) = (paging.limit()?, paging.after::<u64>()?.unwrap_or(0));
    let rows = api.store.audit(after, limit + 1).await;
    let mut rows = rows.map_err(|error| fault("reading the audit log", error))?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| has_more).map(|row| row.seq.to_string());
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
    Ok(page(rows.into_iter().map(shown).collect(), next))
}
