//! The commands that ask the admin door one thing and print the answer.

use http::Method;
use model::{DeviceId, Level};
use serde_json::{Value, json};

use super::{
    CertCommand, DeviceCommand, Output, PasscodeCommand, Scope, admin::AdminClient, output,
    signed_in::SignedIn,
};
use crate::exit::{Exit, Failure};

pub(super) async fn device(command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::Ls(scope) => {
            let items = all(&scope, "/admin/api/devices").await?;
            print_list(&scope, items, DEVICE_COLUMNS);
        }
        DeviceCommand::Get { device, scope } => {
            let one = get(&scope, &format!("/admin/api/devices/{device}")).await?;
            print_one(&scope, &one, DEVICE_RECORD);
            if scope.output == Output::Text {
                print_grants(&one);
            }
        }
        DeviceCommand::Rm { device, scope } => {
            remove(&scope, &format!("/admin/api/devices/{device}")).await?;
            done(&scope, &format!("{device} is removed"));
        }
    }
    Ok(())
}

pub(super) async fn passcode(command: PasscodeCommand) -> Result<(), Failure> {
    match command {
        PasscodeCommand::New { device, ttl, scope } => {
            let body = json!({"device": device, "tenant": scope.tenant, "ttl": ttl});
            let body: Value = body
                .as_object()
                .map(|all| {
                    all.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
                })
                .unwrap_or_default();
            let made =
                AdminClient::new(&scope.admin)?.call(Method::POST, "/admin/api/otp", Some(body)).await?;
            if scope.output == Output::Json {
                output::json(&made);
                return Ok(());
            }
            output::record(&made, &[("passcode", "otp"), ("device", "device"), ("expires", "expires_at")]);
            output::line("\nOn the device: tcpmux-client enroll -   and paste this line:");
            output::line(made["enroll"].as_str().unwrap_or_default());
        }
        PasscodeCommand::Ls(scope) => {
            let items = all(&scope, "/admin/api/otps").await?;
            print_list(&scope, items, PASSCODE_COLUMNS);
        }
        PasscodeCommand::Rm { id, scope } => {
            remove(&scope, &format!("/admin/api/otps/{}", segment(&id))).await?;
            done(&scope, &format!("{id} is removed"));
        }
    }
    Ok(())
}

pub(super) async fn cert(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::Ls(scope) => {
            let items = all(&scope, "/admin/api/certificates").await?;
            print_list(&scope, items, CERTIFICATE_COLUMNS);
        }
        CertCommand::Get { fingerprint, scope } => {
            let one = get(&scope, &format!("/admin/api/certificates/{fingerprint}")).await?;
            print_one(&scope, &one, CERTIFICATE_RECORD);
        }
        CertCommand::Revoke { fingerprint, reason, scope } => {
            let path = with_tenant(&scope, &format!("/admin/api/certificates/{fingerprint}/revoke"));
            let client = AdminClient::new(&scope.admin)?;
            let receipt = client.call(Method::POST, &path, Some(json!({"reason": reason}))).await?;
            let keys = [
                ("nodes that acknowledged", "nodes_acked"),
                ("nodes", "nodes"),
                ("tunnels closed", "tunnels_closed"),
                ("milliseconds", "ms"),
            ];
            print_one(&scope, &receipt, &keys);
        }
    }
    Ok(())
}

pub(super) async fn token(
    scope: Scope,
    device: DeviceId,
    level: Option<Level>,
    ttl: Option<String>,
) -> Result<(), Failure> {
    let answer = if scope.admin.is_given() {
        let client = AdminClient::new(&scope.admin)?;
        let path = with_tenant(&scope, "/admin/api/tokens");
        let (level, ttl) = (level.unwrap_or(Level::Operator), ttl.unwrap_or_else(|| "5m".into()));
        let body = json!({"device": device, "level": level, "ttl": ttl});
        client.call(Method::POST, &path, Some(body)).await?
    } else if level.is_some() || ttl.is_some() {
        let detail = "--level and --ttl are for operators; as a person the token says what you were granted";
        return Err(Failure::new(Exit::Usage, detail));
    } else {
        SignedIn::require()?.proxy_token(&device).await?
    };
    match scope.output {
        Output::Json => output::json(&answer),
        Output::Text => output::line(answer["token"].as_str().unwrap_or_default()),
    }
    Ok(())
}

pub(super) async fn routes(form: Output) -> Result<(), Failure> {
    let items: Vec<Value> = crate::house::inventory()
        .await?
        .into_iter()
        .map(|(door, spec)| {
            json!({
                "door": door,
                "method": spec.method.as_str(),
                "path": spec.path,
                "caller": format!("{:?}", spec.caller).to_lowercase(),
            })
        })
        .collect();
    match form {
        Output::Json => output::json(&Value::Array(items)),
        Output::Text => output::table(
            &items,
            &[("DOOR", "door"), ("METHOD", "method"), ("PATH", "path"), ("CALLER", "caller")],
        ),
    }
    Ok(())
}

/// Every item of a listing, page by page.
pub(super) async fn all(scope: &Scope, path: &str) -> Result<Vec<Value>, Failure> {
    let client = AdminClient::new(&scope.admin)?;
    let mut items = vec![];
    let mut cursor: Option<String> = None;
    loop {
        let mut page_path = with_tenant(scope, path);
        if let Some(cursor) = &cursor {
            page_path = format!("{page_path}&cursor={}", segment(cursor));
        }
        let mut page = client.call(Method::GET, &page_path, None).await?;
        match page["items"].take() {
            Value::Array(more) => items.extend(more),
            _ => return Ok(items),
        }
        match page["next_cursor"].as_str() {
            Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
            _ => return Ok(items),
        }
    }
}

async fn get(scope: &Scope, path: &str) -> Result<Value, Failure> {
    AdminClient::new(&scope.admin)?.call(Method::GET, &with_tenant(scope, path), None).await
}

async fn remove(scope: &Scope, path: &str) -> Result<(), Failure> {
    AdminClient::new(&scope.admin)?.call(Method::DELETE, &with_tenant(scope, path), None).await.map(drop)
}

fn with_tenant(scope: &Scope, path: &str) -> String {
    format!("{path}?tenant={}", scope.tenant)
}

/// Percent-encodes what is not plainly part of a path segment.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub(super) fn print_list(scope: &Scope, items: Vec<Value>, columns: &[(&str, &str)]) {
    match scope.output {
        Output::Json => output::json(&Value::Array(items)),
        Output::Text => output::table(&items, columns),
    }
}

/// Who may reach a device; nothing where nobody may.
fn print_grants(device: &Value) {
    let mut grants = device["grants"].as_array().cloned().unwrap_or_default();
    if grants.is_empty() {
        return;
    }
    for grant in &mut grants {
        // No list means every service, now and later.
        if grant["services"].is_null() {
            grant["services"] = json!("all");
        }
    }
    output::line("");
    output::table(&grants, GRANT_COLUMNS);
}

fn print_one(scope: &Scope, item: &Value, keys: &[(&str, &str)]) {
    match scope.output {
        Output::Json => output::json(item),
        Output::Text => output::record(item, keys),
    }
}

pub(super) fn done(scope: &Scope, words: &str) {
    match scope.output {
        Output::Json => output::json(&json!({"ok": true})),
        Output::Text => output::line(words),
    }
}

const DEVICE_COLUMNS: &[(&str, &str)] = &[
    ("DEVICE", "id"),
    ("ONLINE", "online"),
    ("VERIFIED", "verified_at"),
    ("SERVICES", "services"),
    ("OWNER", "owner"),
    ("CERTIFICATE", "certificate.status"),
    ("UNTIL", "certificate.not_after"),
];
const DEVICE_RECORD: &[(&str, &str)] = &[
    ("device", "id"),
    ("tenant", "tenant"),
    ("name", "name"),
    ("enrolled", "created_at"),
    ("online", "online"),
    ("verified", "verified_at"),
    ("node", "node"),
    ("generation", "generation"),
    ("services", "services"),
    ("owner", "owner"),
    ("certificate", "certificate.fingerprint"),
    ("serial", "certificate.serial"),
    ("until", "certificate.not_after"),
    ("status", "certificate.status"),
];
const GRANT_COLUMNS: &[(&str, &str)] =
    &[("USER", "user"), ("LEVEL", "level"), ("SERVICES", "services"), ("UNTIL", "until")];
const PASSCODE_COLUMNS: &[(&str, &str)] = &[
    ("ID", "id"),
    ("DEVICE", "device"),
    ("STATUS", "status"),
    ("CREATED", "created_at"),
    ("EXPIRES", "expires_at"),
    ("REDEEMED", "redeemed_at"),
];
const CERTIFICATE_COLUMNS: &[(&str, &str)] = &[
    ("FINGERPRINT", "fingerprint"),
    ("DEVICE", "device"),
    ("STATUS", "status"),
    ("SERIAL", "serial"),
    ("UNTIL", "not_after"),
];
const CERTIFICATE_RECORD: &[(&str, &str)] = &[
    ("certificate", "fingerprint"),
    ("serial", "serial"),
    ("tenant", "tenant"),
    ("device", "device"),
    ("status", "status"),
    ("from", "not_before"),
    ("until", "not_after"),
    ("issued", "issued_at"),
    ("first used", "first_used_at"),
    ("by passcode", "passcode"),
    ("renews", "parent"),
];
