//! When each device was connected, and why each connection ended: the last ones of every device.

use model::{
    DeviceId, DeviceRef, DisconnectCause, Generation, ServiceName, SessionId, TenantName, Timestamp,
};
use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{NewEvent, Store, StoreError, column, events};

/// Something that the bus told of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionFact {
    /// A session stands.
    Began {
        /// Whose.
        device: DeviceRef,
        /// Its name.
        session: SessionId,
        /// Its fencing number.
        generation: Generation,
        /// What it serves; `None` leaves what the device said before.
        services: Option<Vec<ServiceName>>,
        /// When.
        at: Timestamp,
    },
    /// A session ended.
    Ended {
        /// Whose.
        device: DeviceRef,
        /// Its name.
        session: SessionId,
        /// Its fencing number.
        generation: Generation,
        /// Why; `None` where nobody saw it, and it is found out now.
        cause: Option<DisconnectCause>,
        /// When.
        at: Timestamp,
    },
    /// One certificate seems to be used in two places.
    CloneSuspected {
        /// Whose.
        device: DeviceRef,
        /// When.
        at: Timestamp,
    },
}

/// A connection of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Whose.
    pub device: DeviceRef,
    /// Its name.
    pub session: SessionId,
    /// Its fencing number: later connections have greater ones.
    pub generation: Generation,
    /// Since when.
    pub began_at: Timestamp,
    /// Until when; `None` while it stands.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, as [`DisconnectCause::as_str`] says it.
    pub cause: Option<String>,
}

impl Store {
    /// Notes facts in this order, with their events, each once however often it is told. Not acts; no audit rows.
    /// Facts of unknown devices are passed over.
    pub async fn note_connections(&self, facts: Vec<ConnectionFact>) -> Result<(), StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                for fact in &facts {
                    note(c, fact).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The connections of a device that its people of today may know of, the latest first, those before
    /// `before`, at most `limit`.
    pub async fn connections(
        &self,
        device: &DeviceRef,
        before: Option<Generation>,
        limit: u32,
    ) -> Result<Vec<ConnectionRow>, StoreError> {
        let device = device.clone();
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT * FROM connections WHERE tenant = ?1 AND device = ?2 AND generation < ?3
                     AND event > coalesce((SELECT seq FROM event_floors WHERE tenant = ?1 AND device = ?2), 0)
                     ORDER BY generation DESC LIMIT ?4",
                )
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .bind(before.map_or(i64::MAX, signed))
                .bind(limit)
                .fetch_all(c)
                .await?;
                rows.iter().map(connection_row).collect()
            })
        })
        .await
    }

    /// The connections that have no end yet, by device, after a given one, at most `limit`.
    pub async fn open_connections(
        &self,
        after: Option<(DeviceRef, Generation)>,
        limit: u32,
    ) -> Result<Vec<ConnectionRow>, StoreError> {
        let (tenant, device, generation) = after.map_or_else(Default::default, |(device, generation)| {
            (device.tenant.as_str().to_owned(), device.device.as_str().to_owned(), signed(generation))
        });
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT * FROM connections WHERE ended_at IS NULL
                     AND (tenant, device, generation) > (?, ?, ?)
                     ORDER BY tenant, device, generation LIMIT ?",
                )
                .bind(tenant)
                .bind(device)
                .bind(generation)
                .bind(limit)
                .fetch_all(c)
                .await?;
                rows.iter().map(connection_row).collect()
            })
        })
        .await
    }
}

async fn note(c: &mut SqliteConnection, fact: &ConnectionFact) -> Result<(), StoreError> {
    match fact {
        ConnectionFact::Began { device, session, generation, services, at } => {
            if !seen(c, device, services.as_deref(), *at).await? || is_noted(c, device, *generation).await? {
                return Ok(());
            }
            let event =
                NewEvent::of_device(device, "device.connected", *at).with(json!({"session": session}));
            let event = events::append(c, &event, *at).await?;
            begin(c, device, session, *generation, event.unwrap_or(0), *at).await?;
            forget_oldest(c, device).await
        }
        ConnectionFact::Ended { device, session, generation, cause, at } => {
            // What nobody saw end was not there until now.
            if cause.is_some() && !seen(c, device, None, *at).await? {
                return Ok(());
            }
            let cause = cause.unwrap_or(DisconnectCause::Lost).as_str();
            if !is_noted(c, device, *generation).await? {
                // Its beginning was not heard of; from here on it cannot be either.
                let event = events::newest(c).await? + 1;
                begin(c, device, session, *generation, event, *at).await?;
            }
            let ended = sqlx::query(
                "UPDATE connections SET ended_at = ?, cause = ?
                 WHERE tenant = ? AND device = ? AND generation = ? AND ended_at IS NULL",
            )
            .bind(at.0)
            .bind(cause)
            .bind(device.tenant.as_str())
            .bind(device.device.as_str())
            .bind(signed(*generation))
            .execute(&mut *c)
            .await?;
            if ended.rows_affected() == 1 {
                let said = json!({"session": session, "cause": cause});
                let event = NewEvent::of_device(device, "device.disconnected", *at).with(said);
                events::append(c, &event, *at).await?;
            }
            Ok(())
        }
        ConnectionFact::CloneSuspected { device, at } => {
            if seen(c, device, None, *at).await? {
                let event = NewEvent::of_device(device, "device.clone_suspected", *at);
                events::append(c, &event, *at).await?;
            }
            Ok(())
        }
    }
}

/// False for a device that there is not.
async fn seen(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    services: Option<&[ServiceName]>,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let names = services.map(|all| all.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" "));
    let seen = sqlx::query(
        "UPDATE devices SET verified_at = max(coalesce(verified_at, 0), ?), services = coalesce(?, services)
         WHERE tenant = ? AND id = ?",
    )
    .bind(at.0)
    .bind(names)
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .execute(c)
    .await?;
    Ok(seen.rows_affected() == 1)
}

async fn is_noted(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    generation: Generation,
) -> Result<bool, StoreError> {
    let noted = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM connections WHERE tenant = ? AND device = ? AND generation = ?)",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .bind(signed(generation));
    Ok(noted.fetch_one(c).await?)
}

async fn begin(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    session: &SessionId,
    generation: Generation,
    event: u64,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO connections (tenant, device, generation, session, event, began_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .bind(signed(generation))
    .bind(session.as_str())
    .bind(i64::try_from(event).unwrap_or(i64::MAX))
    .bind(at.0)
    .execute(c)
    .await?;
    Ok(())
}

async fn forget_oldest(c: &mut SqliteConnection, device: &DeviceRef) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM connections WHERE tenant = ?1 AND device = ?2 AND generation <=
             (SELECT generation FROM connections WHERE tenant = ?1 AND device = ?2
              ORDER BY generation DESC LIMIT 1 OFFSET ?3)",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .bind(KEPT)
    .execute(c)
    .await?;
    Ok(())
}

fn connection_row(row: &SqliteRow) -> Result<ConnectionRow, StoreError> {
    let (tenant, device): (TenantName, DeviceId) =
        (column::text(row, "tenant")?, column::text(row, "device")?);
    Ok(ConnectionRow {
        device: DeviceRef::new(tenant, device),
        session: column::text(row, "session")?,
        generation: Generation(column::number("generation", row.try_get("generation")?)?),
        began_at: column::time(row, "began_at")?,
        ended_at: column::optional_time(row, "ended_at")?,
        cause: row.try_get("cause")?,
    })
}

/// Generations count starts in their upper half; none reaches the sign.
fn signed(generation: Generation) -> i64 {
    i64::try_from(generation.0).unwrap_or(i64::MAX)
}

/// Connections of one device that are remembered.
const KEPT: u32 = 500;
