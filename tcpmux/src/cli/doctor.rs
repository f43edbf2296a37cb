//! `tcpmux doctor`: one line a check, with the remedy where one is needed.

use http::Method;
use serde_json::Value;

use super::{AdminArgs, admin::AdminClient, output};
use crate::{
    data,
    exit::{Exit, Failure},
};

/// Checks the cloud of a data directory, or the one behind an admin door.
pub(super) async fn doctor(args: &AdminArgs) -> Result<(), Failure> {
    let mut report = Report::default();
    let client = match AdminClient::new(args) {
        Ok(client) => client,
        Err(failure) => {
            report.bad("admin door", &failure.to_string());
            return report.end();
        }
    };
    report.good("admin key", "readable for its owner alone");
    match client.call_raw(Method::GET, "/livez", None).await {
        Ok((status, _)) if status.is_success() => report.good("process", client.base()),
        Ok((status, _)) => report.bad("process", &format!("/livez answers {status}")),
        Err(failure) => {
            report.bad("process", &format!("{failure}; is the address right and the CA the cloud's own?"));
            return report.end();
        }
    }
    let (status, body) = client.call_raw(Method::GET, "/readyz", None).await?;
    let checks: Value = serde_json::from_slice(&body).unwrap_or_default();
    for (name, state) in checks["checks"].as_object().into_iter().flatten() {
        match state.as_str() {
            Some("ok") => report.good(name, "ok"),
            other => report.bad(name, other.unwrap_or("not ok")),
        }
    }
    if !status.is_success() && checks.is_null() {
        report.bad("readiness", &format!("/readyz answers {status}"));
    }
    match client.call(Method::GET, "/admin/api/devices?limit=1", None).await {
        Ok(_) => report.good("admin key", "the door accepts it"),
        Err(failure) if failure.exit() == Exit::NotFound => {
            report.good("devices", "kept elsewhere: this is a minimal deployment");
        }
        Err(failure) => {
            report
                .bad("admin key", &format!("{failure}; is it the key of this cloud ({})?", data::ADMIN_KEY));
        }
    }
    report.end()
}

#[derive(Debug, Default)]
struct Report {
    problems: usize,
}

impl Report {
    fn good(&self, what: &str, said: &str) {
        output::line(format!("  ok    {what:<14} {said}"));
    }

    fn bad(&mut self, what: &str, said: &str) {
        self.problems += 1;
        output::line(format!("  FAIL  {what:<14} {said}"));
    }

    fn end(self) -> Result<(), Failure> {
        match self.problems {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Degraded, "1 problem")),
            more => Err(Failure::new(Exit::Degraded, format!("{more} problems"))),
        }
    }
}
