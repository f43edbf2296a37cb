//! Addresses of users' own that are called when something happens. Their secrets are kept sealed; the key that
//! opens them is not here.

use model::{Actor, DeviceId, TenantName, Timestamp, UserActor, UserId, WebhookId};
use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, NewEvent, Store, StoreError, audit, column, events};

/// A webhook without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// Its name.
    pub id: WebhookId,
    /// Whose tenant.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserId,
    /// What is asked for.
    pub wanted: WebhookWish,
    /// Why the cloud switched it off, where it did.
    pub disabled_for: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when the secret before is also signed with.
    pub earlier_secret_until: Option<Timestamp>,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// How many events were not queued because too many waited.
    pub overflowed: u64,
}

/// What an owner says about a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookWish {
    /// Where to.
    pub url: String,
    /// Which types of events; `None` for all but telemetry.
    pub types: Option<Vec<String>>,
    /// Of which devices; `None` for all.
    pub devices: Option<Vec<DeviceId>>,
    /// Whether it is called at all.
    pub enabled: bool,
}

impl Store {
    /// Keeps a new webhook with its sealed secret; a conflict if the user has `most` already.
    pub async fn add_webhook(
        &self,
        owner: &UserActor,
        id: &WebhookId,
        wanted: WebhookWish,
        secret: Vec<u8>,
        most: u32,
        at: Timestamp,
    ) -> Result<WebhookRow, StoreError> {
        let (tenant, user, id) = (owner.tenant().clone(), owner.user().clone(), id.clone());
        let entry = entry(owner, "webhook.create", &id, format!("to={}", wanted.receiver()));
        self.write(move |c| {
            Box::pin(async move {
                let count: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM webhooks WHERE tenant = ? AND user = ?")
                        .bind(tenant.as_str())
                        .bind(user.as_str())
                        .fetch_one(&mut *c)
                        .await?;
                if count >= i64::from(most) {
                    return Err(StoreError::Conflict {
                        what: "there are as many webhooks as a user may have",
                    });
                }
                sqlx::query(
                    "INSERT INTO webhooks (tenant, id, user, url, types, devices, enabled, secret, created_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(tenant.as_str())
                .bind(id.as_str())
                .bind(user.as_str())
                .bind(&wanted.url)
                .bind(wanted.type_words())
                .bind(wanted.device_words())
                .bind(wanted.enabled)
                .bind(secret)
                .bind(at.0)
                .execute(&mut *c)
                .await?;
                audit::append(c, &entry, at).await?;
                one(c, &tenant, &user, &id).await?.ok_or(StoreError::NotFound("webhook"))
            })
        })
        .await
    }

    /// The webhooks of a user, by name.
    pub async fn webhooks_of(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Vec<WebhookRow>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM webhooks WHERE tenant = ? AND user = ? ORDER BY id")
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .fetch_all(c)
                    .await?;
                rows.iter().map(webhook_row).collect()
            })
        })
        .await
    }

    /// One webhook of a user.
    pub async fn webhook(
        &self,
        tenant: &TenantName,
        user: &UserId,
        id: &WebhookId,
    ) -> Result<Option<WebhookRow>, StoreError> {
        let (tenant, user, id) = (tenant.clone(), user.clone(), id.clone());
        self.read(move |c| Box::pin(async move { one(c, &tenant, &user, &id).await })).await
    }

    /// Changes what the owner says, if it still is what they have `read`; `None` otherwise. A webhook that is switched
    /// on begins with a clean slate.
    pub async fn change_webhook(
        &self,
        owner: &UserActor,
        id: &WebhookId,
        read: WebhookWish,
        wanted: WebhookWish,
        at: Timestamp,
    ) -> Result<Option<WebhookRow>, StoreError> {
        let (tenant, user, id) = (owner.tenant().clone(), owner.user().clone(), id.clone());
        let detail = format!("to={} enabled={}", wanted.receiver(), wanted.enabled);
        let entry = entry(owner, "webhook.change", &id, detail);
        self.write(move |c| {
            Box::pin(async move {
                let found = one(c, &tenant, &user, &id).await?.ok_or(StoreError::NotFound("webhook"))?;
                if found.wanted != read {
                    return Ok(None);
                }
                sqlx::query(
                    "UPDATE webhooks SET url = ?, types = ?, devices = ?, enabled = ?, resume_at = 0,
                     failures = 0, failing_since = NULL,
                     disabled_for = CASE WHEN ? THEN NULL ELSE disabled_for END
                     WHERE tenant = ? AND user = ? AND id = ?",
                )
                .bind(&wanted.url)
                .bind(wanted.type_words())
                .bind(wanted.device_words())
                .bind(wanted.enabled)
                .bind(wanted.enabled)
                .bind(tenant.as_str())
                .bind(user.as_str())
                .bind(id.as_str())
                .execute(&mut *c)
                .await?;
                audit::append(c, &entry, at).await?;
                one(c, &tenant, &user, &id).await
            })
        })
        .await
    }

    /// Switches off a webhook that is of no use any more, and lets its owner know by an event, once.
    pub async fn disable_webhook(
        &self,
        tenant: &TenantName,
        user: &UserId,
        id: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (tenant, user, id, why) = (tenant.clone(), user.clone(), id.to_owned(), why.to_owned());
        let object = format!("webhook:{tenant}/{id}");
        let entry = AuditEntry::done(&Actor::System, "webhook.disable", object, why.clone());
        self.write(move |c| {
            Box::pin(async move {
                let disabled = sqlx::query(
                    "UPDATE webhooks SET enabled = 0, disabled_for = ? WHERE tenant = ? AND id = ? AND enabled",
                )
                .bind(&why)
                .bind(tenant.as_str())
                .bind(&id)
                .execute(&mut *c)
                .await?;
                if disabled.rows_affected() == 0 {
                    return Ok(());
                }
                let event = NewEvent {
                    tenant,
                    subject: "webhook.disabled".into(),
                    device: None,
                    user: Some(user),
                    at,
                    source_id: None,
                    data: json!({
                        "type": "webhook.disabled",
                        "severity": "warning",
                        "title": "A webhook of yours was switched off",
                        "body": format!("Nothing is sent to it any more: {why}. Once it works again, switch it on."),
                        "data": {"webhook": id},
                    }),
                };
                events::append(c, &event, at).await?;
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }

    /// Puts a new sealed secret in place; the one before is signed with as well until `earlier_until`.
    pub async fn rotate_webhook_secret(
        &self,
        owner: &UserActor,
        id: &WebhookId,
        secret: Vec<u8>,
        earlier_until: Timestamp,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (tenant, user, id) = (owner.tenant().clone(), owner.user().clone(), id.clone());
        let entry = entry(owner, "webhook.rotate", &id, String::new());
        self.write(move |c| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE webhooks SET earlier_secret = secret, earlier_until = ?, secret = ?
                     WHERE tenant = ? AND user = ? AND id = ?",
                )
                .bind(earlier_until.0)
                .bind(secret)
                .bind(tenant.as_str())
                .bind(user.as_str())
                .bind(id.as_str())
                .execute(&mut *c)
                .await?;
                if changed.rows_affected() == 0 {
                    return Err(StoreError::NotFound("webhook"));
                }
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }

    /// Removes a webhook and everything on its way to it.
    pub async fn remove_webhook(
        &self,
        owner: &UserActor,
        id: &WebhookId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (tenant, user, id) = (owner.tenant().clone(), owner.user().clone(), id.clone());
        let entry = entry(owner, "webhook.remove", &id, String::new());
        self.write(move |c| {
            Box::pin(async move {
                let removed = sqlx::query("DELETE FROM webhooks WHERE tenant = ? AND user = ? AND id = ?")
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .bind(id.as_str())
                    .execute(&mut *c)
                    .await?;
                if removed.rows_affected() == 0 {
                    return Err(StoreError::NotFound("webhook"));
                }
                sqlx::query("DELETE FROM deliveries WHERE tenant = ? AND target = ?")
                    .bind(tenant.as_str())
                    .bind(id.as_str())
                    .execute(&mut *c)
                    .await?;
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }
}

impl WebhookWish {
    /// Scheme, host and port: paths and queries of such addresses often hold secrets of the receiver's.
    fn receiver(&self) -> &str {
        let host = self.url.find("://").map_or(0, |at| at + "://".len());
        let end = self.url[host..].find(['/', '?']).map_or(self.url.len(), |end| host + end);
        &self.url[..end]
    }

    fn type_words(&self) -> Option<String> {
        self.types.as_ref().map(|types| types.join(" "))
    }

    fn device_words(&self) -> Option<String> {
        let devices = self.devices.as_ref()?;
        Some(devices.iter().map(DeviceId::as_str).collect::<Vec<_>>().join(" "))
    }
}

pub(crate) async fn one(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    user: &UserId,
    id: &WebhookId,
) -> Result<Option<WebhookRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM webhooks WHERE tenant = ? AND user = ? AND id = ?")
        .bind(tenant.as_str())
        .bind(user.as_str())
        .bind(id.as_str())
        .fetch_optional(c)
        .await?;
    row.as_ref().map(webhook_row).transpose()
}

pub(crate) fn webhook_row(row: &SqliteRow) -> Result<WebhookRow, StoreError> {
    let words = |column| -> Result<Option<Vec<String>>, StoreError> {
        let text: Option<&str> = row.try_get(column)?;
        Ok(text.map(|text| text.split_ascii_whitespace().map(str::to_owned).collect()))
    };
    let devices = words("devices")?.map(|all| {
        all.iter().map(|word| column::parse("devices", word)).collect::<Result<Vec<DeviceId>, _>>()
    });
    Ok(WebhookRow {
        id: column::text(row, "id")?,
        tenant: column::text(row, "tenant")?,
        user: column::text(row, "user")?,
        wanted: WebhookWish {
            url: row.try_get("url")?,
            types: words("types")?,
            devices: devices.transpose()?,
            enabled: row.try_get("enabled")?,
        },
        disabled_for: row.try_get("disabled_for")?,
        created_at: column::time(row, "created_at")?,
        earlier_secret_until: column::optional_time(row, "earlier_until")?,
        failing_since: column::optional_time(row, "failing_since")?,
        overflowed: column::number("overflowed", row.try_get("overflowed")?)?,
    })
}

fn entry(owner: &UserActor, action: &'static str, id: &WebhookId, detail: String) -> AuditEntry {
    AuditEntry::done(&Actor::User(owner.clone()), action, format!("webhook:{}/{id}", owner.tenant()), detail)
}
