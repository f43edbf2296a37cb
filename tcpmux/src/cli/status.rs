//! `tcpmux status`: the first command that anyone runs.

use http::Method;
use model::TenantName;
use serde_json::{Value, json};

use super::{AdminArgs, Output, Scope, admin::AdminClient, listings, output};
use crate::exit::{Exit, Failure};

/// Prints how the cloud is. Exit 0: healthy; 8: runs, but is not ready; 6: cannot be reached.
pub(super) async fn status(admin: &AdminArgs, form: Output) -> Result<(), Failure> {
    let client = AdminClient::new(admin)?;
    let (ready, readiness) = client.call_raw(Method::GET, "/readyz", None).await?;
    let readiness: Value = serde_json::from_slice(&readiness)
        .unwrap_or_else(|_| json!({"detail": String::from_utf8_lossy(&readiness)}));
    let devices = devices(admin, form).await;
    let online = devices.iter().filter(|device| device["online"] == true).count();
    let report = json!({
        "ready": ready.is_success(),
        "checks": readiness,
        "admin": client.base(),
        "version": env!("CARGO_PKG_VERSION"),
        "devices": {"online": online, "offline": devices.len() - online},
    });
    match form {
        Output::Json => output::json(&report),
        Output::Text => {
            output::line(format!(
                "Cloud    {}  {}",
                client.base(),
                if ready.is_success() { "ready" } else { "NOT READY" }
            ));
            output::line(format!("Devices  {online} online  {} offline", devices.len() - online));
            if !ready.is_success() {
                output::line(format!("Problem  {readiness}"));
            }
        }
    }
    if ready.is_success() {
        return Ok(());
    }
    Err(Failure::new(Exit::Degraded, "the cloud runs, but is not ready"))
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
