//! The audit log, for operators: each row carries the hash of the one before.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use model::{AdminActor, Refusal};
use runtime::http::{Caller, Page, Paging, Routes, ok};
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::Inner,
    call::{Call, handler},
};

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/admin/api/audit", Caller::Admin, handler(api, list))
}

/// Which end a reader begins at; the cursor goes on from there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Oldest,
    Newest,
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    order: Order,
}

/// `GET /admin/api/audit`, oldest first, or with `?order=newest` newest first. The hash is over `at_ms`, not over
/// its text.
pub(crate) async fn list(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let (paging, Asked { order }): (Paging, _) = (call.query()?, call.query()?);
    let (limit, after) = (paging.limit()?, paging.after::<u64>()?);
    let rows = match order {
        Order::Oldest => api.store.audit(after.unwrap_or(0), limit + 1).await,
        Order::Newest => api.store.latest_audit(after, limit + 1).await,
    };
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

/// Says now and every hour which row is the newest, until the process ends. Where logs are kept on another
/// machine, that shows later whether rows were cut off at the end, which the chain alone cannot.
pub(crate) async fn tell_head(api: Arc<Inner>) {
    let mut told = None;
    let mut rounds = tokio::time::interval(TELL_EVERY);
    loop {
        rounds.tick().await;
        match api.store.latest_audit(None, 1).await {
            Ok(newest) => {
                let head = newest.first().map(|row| format!("{}:{}", row.seq, row.hash));
                if let Some(head) = head.filter(|head| told.as_ref() != Some(head)) {
                    tracing::info!(head, "the audit log's newest row");
                    told = Some(head);
                }
            }
            Err(error) => tracing::warn!(%error, "the audit log's newest row cannot be read"),
        }
    }
}

const TELL_EVERY: Duration = Duration::from_secs(3600);
