//! The admin door's own routes: `/livez`, `/readyz`, `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use runtime::{
    Tasks,
    http::{Caller, Routes},
};
use serde_json::json;
use store::Store;

/// The process's counters. The recorder is global: a second house in one process shares it.
pub(super) fn recorder() -> PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Somebody else's recorder would get the counters; ours then shows none.
            let _ = metrics::set_global_recorder(recorder);
            handle
        })
        .clone()
}

/// Keeps histograms from growing between scrapes.
pub(super) async fn upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        handle.run_upkeep();
    }
}

/// The routes. Ready means: not draining, and the store answers.
pub(super) fn routes(store: Option<Store>, tasks: &Tasks) -> Routes {
    let draining = tasks.draining();
    let store = Arc::new(store);
    let readyz = move || {
        let (store, draining) = (Arc::clone(&store), draining.clone());
        async move { readiness(store.as_ref().as_ref(), draining.is_cancelled()).await }
    };
    let handle = recorder();
    Routes::new()
        .get("/livez", Caller::Anyone, || async { "ok\n" })
        .get("/readyz", Caller::Anyone, readyz)
        .get("/metrics", Caller::Anyone, move || async move { handle.render() })
}

async fn readiness(store: Option<&Store>, draining: bool) -> Response {
    let stored = match store {
        None => "ok",
        Some(store) => match tokio::time::timeout(Duration::from_secs(2), store.check()).await {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "does not answer; see the log, and look for space on the disk",
            Err(_) => "does not answer within 2 s",
        },
    };
    let serving = if draining { "draining" } else { "ok" };
    let is_ready = stored == "ok" && !draining;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": is_ready, "checks": {"store": stored, "doors": serving}}))).into_response()
}
