//! Messages on their way out: one row each, from the moment that it is owed until it is long done. A process that
//! dies loses none; one that was sent but not noted goes out again under the same name.

use model::{DeliveryId, TenantName, Timestamp, UserId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Platform, Store, StoreError, column};

/// What has become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its name.
    pub id: DeliveryId,
    /// Its number: later ones are greater.
    pub number: u64,
    /// The event that it carries; `None` for a trial.
    pub event: Option<u64>,
    /// The type of that event.
    pub kind: String,
    /// `pending`, `delivered`, `dead` (given up) or `dropped` (no longer to be told).
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, while it is pending.
    pub next_at: Timestamp,
    /// The last answer's status.
    pub status: Option<u16>,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When it was owed first.
    pub created_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

/// A delivery whose time has come.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// Its name.
    pub id: DeliveryId,
    /// Whose tenant.
    pub tenant: TenantName,
    /// For whom.
    pub user: UserId,
    /// The name of its receiver: a webhook, an app.
    pub target: String,
    /// What is sent.
    pub body: String,
    /// The type of its event.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether the user may still be told of that device.
    pub is_granted: bool,
    /// The receiver; `None` if it is gone.
    pub endpoint: Option<Endpoint>,
}

/// Who receives.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A webhook.
    Webhook {
        /// Its address.
        url: String,
        /// Its sealed secrets, the current one first.
        secrets: Vec<Vec<u8>>,
        /// How many attempts have failed in a row.
        failures: u32,
        /// Since when.
        failing_since: Option<Timestamp>,
    },
    /// An app behind a push service.
    Fcm {
        /// What it runs on.
        platform: Platform,
        /// Its address there.
        token: String,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    /// The receiver has it.
    Delivered,
    /// It will be tried again then; the receiver is left alone until the other moment.
    Again {
        /// When.
        next_at: Timestamp,
        /// Until when the receiver is left alone.
        resume_at: Timestamp,
    },
    /// It is given up.
    Dead,
    /// It is no longer to be told.
    Dropped,
}

/// An attempt, to be noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Attempted,
    /// The answer's status.
    pub status: Option<u16>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl Store {
    /// The deliveries whose time has come: the oldest of each receiver that is not left alone just now.
    pub async fn due_deliveries(&self, now: Timestamp, limit: u32) -> Result<Vec<DueDelivery>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(DUE).bind(now.0).bind(limit).fetch_all(c).await?;
                rows.iter().map(|row| due_row(row, now)).collect()
            })
        })
        .await
    }

    /// When the next delivery is due; `None` if none waits.
    pub async fn next_delivery_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let next: Option<i64> = sqlx::query_scalar(
                    "SELECT min(max(d.next_at, coalesce(w.resume_at, 0))) FROM deliveries d
                     LEFT JOIN webhooks w ON d.channel = 'webhook' AND w.tenant = d.tenant AND w.id = d.target
                     WHERE d.state = 'pending' AND (w.id IS NULL OR w.enabled)",
                )
                .fetch_one(c)
                .await?;
                Ok(next.map(Timestamp))
            })
        })
        .await
    }

    /// Notes an attempt, and how the receiver does. A delivery that is no longer pending stays as it is.
    pub async fn note_attempt(
        &self,
        delivery: &DueDelivery,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (tenant, target, id) = (delivery.tenant.clone(), delivery.target.clone(), delivery.id.clone());
        self.write(move |c| {
            Box::pin(async move {
                let (state, next_at) = match attempt.outcome {
                    Attempted::Delivered => ("delivered", None),
                    Attempted::Again { next_at, .. } => ("pending", Some(next_at.0)),
                    Attempted::Dead => ("dead", None),
                    Attempted::Dropped => ("dropped", None),
                };
                sqlx::query(
                    "UPDATE deliveries SET state = ?1, attempts = attempts + (?1 <> 'dropped'),
                     next_at = coalesce(?2, next_at), status = ?3, reason = ?4,
                     ended_at = CASE WHEN ?1 = 'pending' THEN NULL ELSE ?5 END
                     WHERE tenant = ?6 AND id = ?7 AND state = 'pending'",
                )
                .bind(state)
                .bind(next_at)
                .bind(attempt.status)
                .bind(attempt.reason)
                .bind(now.0)
                .bind(tenant.as_str())
                .bind(id.as_str())
                .execute(&mut *c)
                .await?;
                let health = match attempt.outcome {
                    Attempted::Delivered => Some((0, 0)),
                    Attempted::Again { resume_at, .. } => Some((1, resume_at.0)),
                    Attempted::Dead => Some((1, now.0)),
                    Attempted::Dropped => None,
                };
                if let Some((failed, resume_at)) = health {
                    sqlx::query(
                        "UPDATE webhooks SET failures = CASE WHEN ?1 THEN failures + 1 ELSE 0 END,
                         failing_since = CASE WHEN ?1 THEN coalesce(failing_since, ?2) END, resume_at = ?3
                         WHERE tenant = ?4 AND id = ?5",
                    )
                    .bind(failed)
                    .bind(now.0)
                    .bind(resume_at)
                    .bind(tenant.as_str())
                    .bind(&target)
                    .execute(&mut *c)
                    .await?;
                }
                if state != "pending" {
                    trim(c, &tenant, &target).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Deliveries of one receiver of a user, the newest first.
    pub async fn deliveries(
        &self,
        tenant: &TenantName,
        user: &UserId,
        target: &str,
        state: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let (tenant, user, target) = (tenant.clone(), user.clone(), target.to_owned());
        let state = state.map(str::to_owned);
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT * FROM deliveries WHERE tenant = ?1 AND user = ?2 AND target = ?3 AND number < ?4
                     AND (?5 IS NULL OR state = ?5) ORDER BY number DESC LIMIT ?6",
                )
                .bind(tenant.as_str())
                .bind(user.as_str())
                .bind(target)
                .bind(before.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX)))
                .bind(state)
                .bind(limit)
                .fetch_all(c)
                .await?;
                rows.iter().map(delivery_row).collect()
            })
        })
        .await
    }

    /// Has a delivery made again, under the same name and from the first attempt on; what is not there is not found.
    pub async fn redeliver(
        &self,
        tenant: &TenantName,
        user: &UserId,
        target: &str,
        id: &DeliveryId,
        now: Timestamp,
    ) -> Result<DeliveryRow, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        let (target, id) = (target.to_owned(), id.clone());
        self.write(move |c| {
            Box::pin(async move {
                let row = sqlx::query(
                    "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = ?1, ended_at = NULL
                     WHERE tenant = ?2 AND user = ?3 AND target = ?4 AND id = ?5 RETURNING *",
                )
                .bind(now.0)
                .bind(tenant.as_str())
                .bind(user.as_str())
                .bind(&target)
                .bind(id.as_str())
                .fetch_optional(&mut *c)
                .await?;
                let row =
                    row.as_ref().map(delivery_row).transpose()?.ok_or(StoreError::NotFound("delivery"))?;
                sqlx::query("UPDATE webhooks SET resume_at = 0 WHERE tenant = ? AND id = ?")
                    .bind(tenant.as_str())
                    .bind(&target)
                    .execute(c)
                    .await?;
                Ok(row)
            })
        })
        .await
    }

    /// Gives up what has waited since before `pending`, and forgets what was over before `ended`; some at a time.
    pub async fn forget_old_deliveries(
        &self,
        pending: Timestamp,
        ended: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let given_up = sqlx::query(
                    "UPDATE deliveries SET state = 'dead', ended_at = ?, reason = 'it waited too long'
                     WHERE number IN (SELECT number FROM deliveries
                                      WHERE state = 'pending' AND created_at < ? LIMIT 500)",
                )
                .bind(now.0)
                .bind(pending.0)
                .execute(&mut *c)
                .await?;
                let forgotten = sqlx::query(
                    "DELETE FROM deliveries WHERE number IN
                     (SELECT number FROM deliveries WHERE ended_at < ? LIMIT 500)",
                )
                .bind(ended.0)
                .execute(c)
                .await?;
                Ok(given_up.rows_affected() + forgotten.rows_affected())
            })
        })
        .await
    }
}

/// Of what is over, a receiver's newest stay.
async fn trim(c: &mut SqliteConnection, tenant: &TenantName, target: &str) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM deliveries WHERE tenant = ?1 AND target = ?2 AND state <> 'pending' AND number <=
         (SELECT number FROM deliveries WHERE tenant = ?1 AND target = ?2 AND state <> 'pending'
          ORDER BY number DESC LIMIT 1 OFFSET ?3)",
    )
    .bind(tenant.as_str())
    .bind(target)
    .bind(MOST_ENDED)
    .execute(c)
    .await?;
    Ok(())
}

fn due_row(row: &SqliteRow, now: Timestamp) -> Result<DueDelivery, StoreError> {
    let url: Option<String> = row.try_get("url")?;
    let token: Option<String> = row.try_get("token")?;
    let endpoint = match (url, token) {
        (Some(url), _) => {
            let mut secrets = vec![row.try_get::<Vec<u8>, _>("secret")?];
            if column::optional_time(row, "earlier_until")?.is_some_and(|until| now < until) {
                secrets.extend(row.try_get::<Option<Vec<u8>>, _>("earlier_secret")?);
            }
            Some(Endpoint::Webhook {
                url,
                secrets,
                failures: row.try_get("failures")?,
                failing_since: column::optional_time(row, "failing_since")?,
            })
        }
        (None, Some(token)) => Some(Endpoint::Fcm { platform: column::text(row, "platform")?, token }),
        (None, None) => None,
    };
    Ok(DueDelivery {
        id: column::text(row, "id")?,
        tenant: column::text(row, "tenant")?,
        user: column::text(row, "user")?,
        target: row.try_get("target")?,
        body: row.try_get("body")?,
        kind: row.try_get("type")?,
        attempts: row.try_get("attempts")?,
        is_granted: row.try_get("is_granted")?,
        endpoint,
    })
}

fn delivery_row(row: &SqliteRow) -> Result<DeliveryRow, StoreError> {
    let event: Option<i64> = row.try_get("event")?;
    Ok(DeliveryRow {
        id: column::text(row, "id")?,
        number: column::number("number", row.try_get("number")?)?,
        event: event.map(|event| column::number("event", event)).transpose()?,
        kind: row.try_get("type")?,
        state: row.try_get("state")?,
        attempts: row.try_get("attempts")?,
        next_at: column::time(row, "next_at")?,
        status: row.try_get("status")?,
        reason: row.try_get("reason")?,
        created_at: column::time(row, "created_at")?,
        ended_at: column::optional_time(row, "ended_at")?,
    })
}

const MOST_ENDED: u32 = 500;
/// What a user's rights changed to is told to that user even when it was the last of them.
const DUE: &str = "SELECT d.id, d.tenant, d.user, d.target, d.body, d.type, d.attempts,
        w.url, w.secret, w.earlier_secret, w.earlier_until, w.failures, w.failing_since, p.platform, p.token,
        (d.device IS NULL OR d.type = 'grant.changed' OR EXISTS (SELECT 1 FROM grants g WHERE g.tenant = d.tenant
         AND g.user = d.user AND g.device = d.device AND (g.until IS NULL OR g.until > ?1))
         AND d.event > coalesce((SELECT f.seq FROM event_floors f WHERE f.tenant = d.tenant AND f.device = d.device), 0)
        ) AS is_granted
    FROM deliveries d
    LEFT JOIN webhooks w ON d.channel = 'webhook' AND w.tenant = d.tenant AND w.id = d.target
    LEFT JOIN push_registrations p ON d.channel = 'fcm' AND p.tenant = d.tenant AND p.id = d.target
    WHERE d.number IN (
        SELECT min(d.number) FROM deliveries d
        LEFT JOIN webhooks w ON d.channel = 'webhook' AND w.tenant = d.tenant AND w.id = d.target
        WHERE d.state = 'pending' AND d.next_at <= ?1 AND (w.id IS NULL OR (w.enabled AND w.resume_at <= ?1))
        GROUP BY d.tenant, d.target ORDER BY min(d.next_at) LIMIT ?2)
    ORDER BY d.next_at, d.number";
