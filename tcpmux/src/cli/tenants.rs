//! `tcpmux tenant`: list, make, and remove with everything in it.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use http::Method;
use model::TenantName;
use serde_json::json;
use tokio::time::Instant;

use super::{TenantCommand, admin::AdminClient, listings};
use crate::exit::{Exit, Failure};

pub(super) async fn tenant(command: TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Ls(scope) => {
            let items = listings::all(&scope, "/admin/api/tenants").await?;
            listings::print_list(&scope, items, COLUMNS);
        }
        TenantCommand::New { name, scope } => {
            let client = AdminClient::new(&scope.admin)?;
            client.call(Method::POST, "/admin/api/tenants", Some(json!({"name": name}))).await?;
            listings::done(&scope, &format!("{name} stands"));
        }
        TenantCommand::Rm { name, yes, scope } => {
            let client = AdminClient::new(&scope.admin)?;
            if !yes {
                confirm(&name)?;
            }
            remove(&client, &name).await?;
            listings::done(&scope, &format!("{name} is removed"));
        }
    }
    Ok(())
}

/// Has the operator type the name. A script says `--yes`.
fn confirm(name: &TenantName) -> Result<(), Failure> {
    let refused = |said: &str| Err(Failure::new(Exit::Usage, said));
    if !std::io::stdin().is_terminal() {
        return refused(
            "this removes every device, user and event of the tenant for good; say --yes if that is meant",
        );
    }
    let mut ask = std::io::stderr();
    let asked = write!(ask, "Every device, user and event of {name} goes for good. Type its name to go on: ");
    asked.and_then(|()| ask.flush()).map_err(anyhow::Error::from)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(anyhow::Error::from)?;
    if answer.trim() == name.as_str() {
        Ok(())
    } else {
        refused("another name was typed; nothing was removed")
    }
}

/// Asks again until nothing is left: a tenant of many devices takes longer than one answer.
async fn remove(client: &AdminClient, name: &TenantName) -> Result<(), Failure> {
    let path = format!("/admin/api/tenants/{name}?confirm={name}");
    let began = Instant::now();
    let mut answer = client.call(Method::DELETE, &path, None).await?;
    while answer["status"] == "deleting" {
        if began.elapsed() > LONGEST_WAIT {
            let said =
                format!("{name} is still being deleted; that goes on by itself, `tcpmux tenant ls` shows it");
            return Err(Failure::new(Exit::Failed, said));
        }
        answer = match client.call(Method::DELETE, &path, None).await {
            // It ended between the two calls.
            Err(failure) if failure.exit() == Exit::NotFound => return Ok(()),
            other => other?,
        };
    }
    Ok(())
}

const COLUMNS: &[(&str, &str)] = &[("NAME", "name"), ("STATUS", "status"), ("CREATED", "created_at")];
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
