//! The admin door's own routes: `/livez`, `/readyz`, `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use registry::{Health, Registry};
use runtime::{
    Handshakes, Tasks,
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

/// The routes. Ready means: not draining, and the store can be read. A store that cannot be written stops no device,
/// nor does a shared registry that is away.
pub(super) fn routes(
    store: Option<Store>,
    registry: Registry,
    handshakes: Vec<(&'static str, Handshakes)>,
    tasks: &Tasks,
) -> Routes {
    let draining = tasks.draining();
    let (store, shared, handshakes) = (Arc::new(store), registry.clone(), Arc::new(handshakes));
    let readyz = move || {
        let (store, registry, draining) = (Arc::clone(&store), registry.clone(), draining.clone());
        async move { readiness(store.as_ref().as_ref(), &registry.health(), draining.is_cancelled()).await }
    };
    let handle = recorder();
    let metrics = move || async move {
        count_registry(&shared.health());
        count_handshakes(&handshakes);
        handle.render()
    };
    Routes::new()
        .get("/livez", Caller::Anyone, || async { "ok\n" })
        .get("/readyz", Caller::Anyone, readyz)
        .get("/metrics", Caller::Anyone, metrics)
}

async fn readiness(store: Option<&Store>, registry: &Health, draining: bool) -> Response {
    let (reading, writing) = match store {
        None => (OK, OK),
        Some(store) => tokio::join!(
            in_time(store.check_reading(), "cannot be read; see the log"),
            in_time(store.check_writing(), "cannot be written; see the log, and look for space on the disk"),
        ),
    };
    let serving = if draining { "draining" } else { OK };
    let sharing = match &registry.problem {
        None => OK.to_owned(),
        Some(problem) => {
            format!("cannot be used ({problem}); this node serves what it holds, without tickets")
        }
    };
    let is_ready = reading == OK && !draining;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = json!({"store": reading, "writes": writing, "registry": sharing, "doors": serving});
    let live = json!({
        "shared": registry.shared.is_some(),
        "nodes": registry.nodes,
        "sessions": registry.sessions,
        "sessions_of_all": registry.sessions_of_all,
    });
    (status, Json(json!({"ready": is_ready, "checks": checks, "live": live}))).into_response()
}

fn count_registry(health: &Health) {
    metrics::gauge!("tcpmux_registry_sessions").set(number(health.sessions));
    if health.shared.is_some() {
        metrics::gauge!("tcpmux_registry_up").set(u32::from(health.problem.is_none()));
        metrics::gauge!("tcpmux_registry_nodes").set(number(health.nodes));
        metrics::gauge!("tcpmux_registry_messages_waiting").set(number(health.waiting));
        metrics::counter!("tcpmux_registry_messages_lost_total").absolute(health.lost);
    }
}

fn count_handshakes(doors: &[(&'static str, Handshakes)]) {
    for (door, handshakes) in doors {
        let counts = handshakes.counts();
        metrics::gauge!("tcpmux_handshakes_unfinished", "door" => *door).set(number(counts.unfinished));
        metrics::gauge!("tcpmux_handshakes_unfinished_most", "door" => *door).set(number(counts.most));
        metrics::counter!("tcpmux_handshakes_refused_total", "door" => *door).absolute(counts.refused);
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
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
