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
use store::{Store, StoreError};

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

/// The routes. Ready means: not draining, and the store can be read. A store that cannot be written stops no device.
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
    let (reading, writing) = match store {
        None => (OK, OK),
        Some(store) => tokio::join!(
            in_time(store.check_reading(), "cannot be read; see the log"),
            in_time(store.check_writing(), "cannot be written; see the log, and look for space on the disk"),
        ),
    };
    let serving = if draining { "draining" } else { OK };
    let is_ready = reading == OK && !draining;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = json!({"store": reading, "writes": writing, "doors": serving});
    (status, Json(json!({"ready": is_ready, "checks": checks}))).into_response()
}

async fn in_time(check: impl Future<Output = Result<(), StoreError>>, failed: &'static str) -> &'static str {
    match tokio::time::timeout(Duration::from_secs(2), check).await {
        Ok(Ok(())) => OK,
        Ok(Err(_)) => failed,
        Err(_) => "does not answer within 2 s",
    }
}

/// What a check says that found nothing wrong.
const OK: &str = "ok";
