//! From the event log to those who are told: events are read in their order, and what each of them leads to is
//! filed together with the mark up to which the log was read. A crash in between neither loses nor doubles.

use model::{DeliveryId, DeviceId, Grant, Level, TenantName, Timestamp, UserId};
use sqlx::SqliteConnection;

use crate::{
    EventRow, PushRegistrationRow, Store, StoreError, WebhookRow,
    column::{self, whole},
    events, grants, inbox, notification_settings, push_registrations, webhooks,
};

/// The next stretch of the log.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Those of its events that somebody may have to be told of.
    pub events: Vec<EventRow>,
    /// It was read up to this number.
    pub upto: u64,
}

/// Somebody who may be told of an event, and by what means.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Who.
    pub user: UserId,
    /// The right on the device; `None` where the event is about the user and no device's.
    pub grant: Option<Grant>,
    /// How the user wants to be told, as the room wrote it down.
    pub settings: Option<String>,
    /// The user's webhooks.
    pub webhooks: Vec<WebhookRow>,
    /// The user's apps.
    pub apps: Vec<PushRegistrationRow>,
}

/// What one event leads to.
#[derive(Debug, Clone)]
pub struct Sorted {
    /// The event.
    pub event: EventRow,
    /// Whose inboxes it goes into.
    pub inboxes: Vec<UserId>,
    /// The messages that it sends out.
    pub deliveries: Vec<NewDelivery>,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Its name.
    pub id: DeliveryId,
    /// For whom.
    pub user: UserId,
    /// `webhook` or `fcm`.
    pub channel: &'static str,
    /// The receiver's name.
    pub target: String,
    /// What is sent.
    pub body: String,
}

impl Store {
    /// Up to which number the log was read.
    pub async fn sorted_upto(&self) -> Result<u64, StoreError> {
        self.read(|c| Box::pin(async move { mark(c).await })).await
    }

    /// The log after a number, at most `step` numbers of it; of that, what may concern an inbox or a webhook.
    pub async fn stretch_of_events(&self, after: u64, step: u32) -> Result<Stretch, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let upto = events::newest(c).await?.min(after.saturating_add(step.into())).max(after);
                let rows = sqlx::query(CONCERNING).bind(whole(after)).bind(whole(upto)).fetch_all(c).await?;
                Ok(Stretch { events: rows.iter().map(events::event_row).collect::<Result<_, _>>()?, upto })
            })
        })
        .await
    }

    /// Who may know of an event at this moment: those with a live grant on its device; of a changed grant, its user
    /// and the owners; of what is about a user and no device, that user.
    pub async fn audience(&self, event: &EventRow, now: Timestamp) -> Result<Vec<Recipient>, StoreError> {
        let (seq, event) = (event.seq, event.event.clone());
        self.read(move |c| {
            Box::pin(async move {
                let mut users: Vec<(UserId, Option<Grant>)> = vec![];
                if let Some(device) = &event.device
                    && is_above_the_floor(c, &event.tenant, device, seq).await?
                {
                    let rows =
                        sqlx::query("SELECT * FROM grants WHERE tenant = ? AND device = ? ORDER BY user")
                            .bind(event.tenant.as_str())
                            .bind(device.as_str())
                            .fetch_all(&mut *c)
                            .await?;
                    for row in &rows {
                        let grant = grants::grant_row(row)?;
                        if grant.is_live(now) {
                            users.push((column::text(row, "user")?, Some(grant)));
                        }
                    }
                    if event.subject == GRANT_CHANGED {
                        users.retain(|(user, grant)| {
                            Some(user) == event.user.as_ref()
                                || grant.as_ref().is_some_and(|grant| grant.level == Level::Owner)
                        });
                    }
                }
                let concerns_a_user = event.device.is_none() || event.subject == GRANT_CHANGED;
                if let Some(user) = event.user.filter(|_| concerns_a_user)
                    && users.iter().all(|(known, _)| *known != user)
                    && is_user(c, &event.tenant, &user).await?
                {
                    users.push((user, None));
                }
                let mut recipients = Vec::with_capacity(users.len());
                for (user, grant) in users {
                    recipients.push(Recipient {
                        grant,
                        settings: notification_settings::of_user(c, &event.tenant, &user).await?,
                        webhooks: enabled_webhooks(c, &event.tenant, &user).await?,
                        apps: push_registrations::of_user(c, &event.tenant, &user).await?,
                        user,
                    });
                }
                Ok(recipients)
            })
        })
        .await
    }

    /// Files what a stretch of the log has led to, and moves the mark from `from` to `upto`. Whoever has lost the
    /// grant since gets nothing. False, and nothing filed, if the mark is not at `from`: somebody else filed it.
    pub async fn file_sorted(
        &self,
        from: u64,
        upto: u64,
        sorted: Vec<Sorted>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                if mark(c).await? != from {
                    return Ok(false);
                }
                for one in &sorted {
                    file(c, one, now).await?;
                }
                sqlx::query(
                    "INSERT INTO counters (name, value) VALUES (?, ?)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                )
                .bind(MARK)
                .bind(whole(upto))
                .execute(c)
                .await?;
                Ok(true)
            })
        })
        .await
    }

    /// Sends a message that no event stands behind: a trial.
    pub async fn add_trial(
        &self,
        tenant: &TenantName,
        trial: NewDelivery,
        kind: &'static str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.write(move |c| {
            Box::pin(async move {
                if waiting(c, &tenant, &trial.user).await? >= MOST_WAITING {
                    return Err(StoreError::Conflict { what: "too many messages wait for your receivers" });
                }
                let about = About { tenant: &tenant, event: None, kind, device: None };
                insert(c, &about, &trial, now).await
            })
        })
        .await
    }
}

async fn file(c: &mut SqliteConnection, sorted: &Sorted, now: Timestamp) -> Result<(), StoreError> {
    let (seq, event) = (sorted.event.seq, &sorted.event.event);
    if let Some(device) = event.device.as_ref().filter(|_| events::FLOORS.contains(&&*event.subject)) {
        inbox::forget_device(c, &event.tenant, device, seq).await?;
    }
    for user in &sorted.inboxes {
        if !may_know(c, sorted, user, now).await? {
            continue;
        }
        sqlx::query(
            "INSERT INTO inbox (tenant, user, sequence, device, at, data, filed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(event.tenant.as_str())
        .bind(user.as_str())
        .bind(whole(seq))
        .bind(event.device.as_ref().map(DeviceId::as_str))
        .bind(event.at.0)
        .bind(event.data.to_string())
        .bind(now.0)
        .execute(&mut *c)
        .await?;
        sqlx::query(
            "DELETE FROM inbox WHERE tenant = ?1 AND user = ?2 AND sequence <= (SELECT sequence FROM inbox
             WHERE tenant = ?1 AND user = ?2 ORDER BY sequence DESC LIMIT 1 OFFSET ?3)",
        )
        .bind(event.tenant.as_str())
        .bind(user.as_str())
        .bind(MOST_IN_AN_INBOX)
        .execute(&mut *c)
        .await?;
    }
    let about = About {
        tenant: &event.tenant,
        event: Some(seq),
        kind: &event.subject,
        device: event.device.as_ref(),
    };
    for delivery in &sorted.deliveries {
        if !may_know(c, sorted, &delivery.user, now).await? {
            continue;
        }
        if waiting(c, &event.tenant, &delivery.user).await? >= MOST_WAITING {
            sqlx::query("UPDATE webhooks SET overflowed = overflowed + 1 WHERE tenant = ? AND id = ?")
                .bind(event.tenant.as_str())
                .bind(&delivery.target)
                .execute(&mut *c)
                .await?;
            continue;
        }
        insert(c, &about, delivery, now).await?;
    }
    Ok(())
}

struct About<'a> {
    tenant: &'a TenantName,
    event: Option<u64>,
    kind: &'a str,
    device: Option<&'a DeviceId>,
}

/// The receiver has to be there still; the database refuses rows of users who are not.
async fn insert(
    c: &mut SqliteConnection,
    about: &About<'_>,
    delivery: &NewDelivery,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deliveries (id, tenant, user, channel, target, event, type, device, body, state, next_at, created_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?10, ?10
         WHERE EXISTS (SELECT 1 FROM webhooks WHERE tenant = ?2 AND id = ?5)
            OR EXISTS (SELECT 1 FROM push_registrations WHERE tenant = ?2 AND id = ?5)
         ON CONFLICT DO NOTHING",
    )
    .bind(delivery.id.as_str())
    .bind(about.tenant.as_str())
    .bind(delivery.user.as_str())
    .bind(delivery.channel)
    .bind(&delivery.target)
    .bind(about.event.map(whole))
    .bind(about.kind)
    .bind(about.device.map(DeviceId::as_str))
    .bind(&delivery.body)
    .bind(now.0)
    .execute(c)
    .await?;
    Ok(())
}

async fn may_know(
    c: &mut SqliteConnection,
    sorted: &Sorted,
    user: &UserId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let event = &sorted.event.event;
    let Some(device) = event.device.as_ref().filter(|_| event.subject != GRANT_CHANGED) else {
        return is_user(c, &event.tenant, user).await;
    };
    let granted: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM grants WHERE tenant = ? AND user = ? AND device = ?
         AND (until IS NULL OR until > ?))",
    )
    .bind(event.tenant.as_str())
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(now.0)
    .fetch_one(&mut *c)
    .await?;
    Ok(granted && is_above_the_floor(c, &event.tenant, device, sorted.event.seq).await?)
}

async fn is_user(c: &mut SqliteConnection, tenant: &TenantName, user: &UserId) -> Result<bool, StoreError> {
    let known = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE tenant = ? AND id = ?)")
        .bind(tenant.as_str())
        .bind(user.as_str());
    Ok(known.fetch_one(c).await?)
}

/// Whether an event is of the device's present owner's time.
async fn is_above_the_floor(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    device: &DeviceId,
    seq: u64,
) -> Result<bool, StoreError> {
    let floor: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM event_floors WHERE tenant = ? AND device = ?")
            .bind(tenant.as_str())
            .bind(device.as_str())
            .fetch_optional(c)
            .await?;
    Ok(floor.is_none_or(|floor| whole(seq) > floor))
}

async fn enabled_webhooks(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    user: &UserId,
) -> Result<Vec<WebhookRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM webhooks WHERE tenant = ? AND user = ? AND enabled ORDER BY id")
        .bind(tenant.as_str())
        .bind(user.as_str())
        .fetch_all(c)
        .await?;
    rows.iter().map(webhooks::webhook_row).collect()
}

async fn waiting(c: &mut SqliteConnection, tenant: &TenantName, user: &UserId) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM deliveries WHERE tenant = ? AND user = ? AND state = 'pending'",
    )
    .bind(tenant.as_str())
    .bind(user.as_str());
    Ok(count.fetch_one(c).await?)
}

async fn mark(c: &mut SqliteConnection) -> Result<u64, StoreError> {
    let mark: Option<i64> =
        sqlx::query_scalar("SELECT value FROM counters WHERE name = ?").bind(MARK).fetch_optional(c).await?;
    column::number("value", mark.unwrap_or(0))
}

const MARK: &str = "notifications.sorted";
const GRANT_CHANGED: &str = "grant.changed";
const MOST_IN_AN_INBOX: u32 = 1000;
const MOST_WAITING: i64 = 1000;
/// Telemetry is for webhooks that name it; all else, where it is not for an inbox, for those that name it or nothing.
const CONCERNING: &str = "SELECT * FROM events e WHERE e.seq > ?1 AND e.seq <= ?2
    AND (e.subject IN ('notification', 'webhook.disabled', 'device.released', 'device.transferred', 'device.removed')
         OR EXISTS (SELECT 1 FROM webhooks w WHERE w.tenant = e.tenant AND w.enabled
                    AND (w.types IS NULL AND e.subject <> 'telemetry'
                         OR instr(' ' || w.types || ' ', ' ' || e.subject || ' ') > 0)))
    ORDER BY e.seq";
