//! `tcpmux status`: the first command that anyone runs.

use http::Method;
use model::TenantName;
use serde_json::{Value, json};

use super::{AdminArgs, Output, Scope, admin::AdminClient, listings, output};
use crate::exit::{Exit, Failure};

/// Prints how the cloud is. Exit 0: healthy; 8: runs, but not all of it; 6: cannot be reached.
pub(super) async fn status(admin: &AdminArgs, form: Output) -> Result<(), Failure> {
    let client = AdminClient::new(admin)?;
    let (ready, readiness) = client.call_raw(Method::GET, "/readyz", None).await?;
    let readiness: Value = serde_json::from_slice(&readiness)
        .unwrap_or_else(|_| json!({"detail": String::from_utf8_lossy(&readiness)}));
    let devices = devices(admin, form).await;
    let online = devices.iter().filter(|device| device["online"] == true).count();
    let problems = problems(&readiness);
    let state = match (ready.is_success(), problems.is_empty()) {
        (true, true) => "ready",
        (true, false) => "degraded",
        (false, _) => "not ready",
    };
    let report = json!({
        "ready": ready.is_success(),
        "state": state,
        "checks": readiness,
        "admin": client.base(),
        "version": env!("CARGO_PKG_VERSION"),
        "devices": {"online": online, "offline": devices.len() - online},
    });
    match form {
        Output::Json => output::json(&report),
        Output::Text => {
            output::line(format!("Cloud    {}  {state}", client.base()));
            output::line(format!("Devices  {online} online  {} offline", devices.len() - online));
            output::line(format!("Live     {}", live(&readiness["live"])));
            for (what, said) in &problems {
                output::line(format!("Problem  {what}: {said}"));
            }
        }
    }
    if state == "ready" { Ok(()) } else { Err(Failure::new(Exit::Degraded, format!("the cloud is {state}"))) }
}

/// What is live, and among how many.
fn live(live: &Value) -> String {
    let number = |what: &str| live[what].as_u64().unwrap_or_default();
    match live["shared"].as_bool() {
        Some(true) => format!(
            "{} sessions here  {} on all {} nodes",
            number("sessions"),
            number("sessions_of_all"),
            number("nodes")
        ),
        Some(false) => format!("{} sessions here  one node", number("sessions")),
        None => "not told".into(),
    }
}

/// The checks that did not end well.
fn problems(readiness: &Value) -> Vec<(&str, &str)> {
    let checks = readiness["checks"].as_object().into_iter().flatten();
    let said = checks.map(|(what, said)| (what.as_str(), said.as_str().unwrap_or("not ok")));
    said.filter(|(_, said)| *said != "ok").collect()
}

/// The devices of every tenant. Without the roles that keep devices in a store there are no such lists.
async fn devices(admin: &AdminArgs, form: Output) -> Vec<Value> {
    let mut scope = Scope { admin: admin.clone(), tenant: TenantName::default(), output: form };
    let mut devices = vec![];
    for tenant in listings::all(&scope, "/admin/api/tenants").await.unwrap_or_default() {
        let Some(name) = tenant["name"].as_str().and_then(|name| name.parse().ok()) else { continue };
        scope.tenant = name;
        devices.extend(listings::all(&scope, "/admin/api/devices").await.unwrap_or_default());
    }
    devices
}
