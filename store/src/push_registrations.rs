//! Apps that take push messages, by the address that the push service gave to each.

use std::str::FromStr;

use model::{PushRegistrationId, TenantName, Timestamp, UserId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Store, StoreError, column};

/// What an app runs on; messages look different on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Android.
    Android,
    /// iOS and its kin.
    Ios,
    /// A browser.
    Web,
}

/// An app that takes push messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRegistrationRow {
    /// Its name.
    pub id: PushRegistrationId,
    /// Whose tenant.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserId,
    /// What it runs on.
    pub platform: Platform,
    /// Its address at the push service.
    pub token: String,
    /// Since when.
    pub created_at: Timestamp,
}

impl Platform {
    /// The word in rows and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
            Self::Web => "web",
        }
    }
}

impl FromStr for Platform {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "android" => Ok(Self::Android),
            "ios" => Ok(Self::Ios),
            "web" => Ok(Self::Web),
            _ => Err("a platform is android, ios or web".into()),
        }
    }
}

impl Store {
    /// Registers an app. One address belongs to one user: whoever signs in on a machine last has it. With more
    /// than `most` the user's oldest goes. Returns its name, which stays if it was registered already.
    pub async fn put_push_registration(
        &self,
        new: PushRegistrationRow,
        most: u32,
    ) -> Result<PushRegistrationId, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let known = sqlx::query("SELECT * FROM push_registrations WHERE token = ?")
                    .bind(&new.token)
                    .fetch_optional(&mut *c)
                    .await?;
                if let Some(known) = known.as_ref().map(registration_row).transpose()? {
                    if (&known.tenant, &known.user, known.platform) == (&new.tenant, &new.user, new.platform)
                    {
                        return Ok(known.id);
                    }
                    remove(c, &known).await?;
                }
                sqlx::query(
                    "INSERT INTO push_registrations (tenant, id, user, platform, token, created_at)
                     VALUES (?, ?, ?, ?, ?, ?)",
                )
                .bind(new.tenant.as_str())
                .bind(new.id.as_str())
                .bind(new.user.as_str())
                .bind(new.platform.as_str())
                .bind(&new.token)
                .bind(new.created_at.0)
                .execute(&mut *c)
                .await?;
                for oldest in of_user(c, &new.tenant, &new.user).await?.iter().skip(most as usize) {
                    remove(c, oldest).await?;
                }
                Ok(new.id)
            })
        })
        .await
    }

    /// The apps of a user, the newest first.
    pub async fn push_registrations_of(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Vec<PushRegistrationRow>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| Box::pin(async move { of_user(c, &tenant, &user).await })).await
    }

    /// Forgets an app of a user by its address; false if there is none.
    pub async fn remove_push_token(
        &self,
        tenant: &TenantName,
        user: &UserId,
        token: &str,
    ) -> Result<bool, StoreError> {
        let (tenant, user, token) = (tenant.clone(), user.clone(), token.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                let all = of_user(c, &tenant, &user).await?;
                let Some(known) = all.iter().find(|known| known.token == token) else { return Ok(false) };
                remove(c, known).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Forgets an app that the push service does not know any more.
    pub async fn forget_push_registration(&self, tenant: &TenantName, id: &str) -> Result<(), StoreError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                let known = sqlx::query("SELECT * FROM push_registrations WHERE tenant = ? AND id = ?")
                    .bind(tenant.as_str())
                    .bind(id)
                    .fetch_optional(&mut *c)
                    .await?;
                match known.as_ref().map(registration_row).transpose()? {
                    Some(known) => remove(c, &known).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }
}

pub(crate) async fn of_user(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    user: &UserId,
) -> Result<Vec<PushRegistrationRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM push_registrations WHERE tenant = ? AND user = ? ORDER BY created_at DESC, id",
    )
    .bind(tenant.as_str())
    .bind(user.as_str())
    .fetch_all(c)
    .await?;
    rows.iter().map(registration_row).collect()
}

async fn remove(c: &mut SqliteConnection, known: &PushRegistrationRow) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM deliveries WHERE tenant = ? AND target = ? AND state = 'pending'",
        "DELETE FROM push_registrations WHERE tenant = ? AND id = ?",
    ] {
        sqlx::query(statement).bind(known.tenant.as_str()).bind(known.id.as_str()).execute(&mut *c).await?;
    }
    Ok(())
}

fn registration_row(row: &SqliteRow) -> Result<PushRegistrationRow, StoreError> {
    Ok(PushRegistrationRow {
        id: column::text(row, "id")?,
        tenant: column::text(row, "tenant")?,
        user: column::text(row, "user")?,
        platform: column::text(row, "platform")?,
        token: row.try_get("token")?,
        created_at: column::time(row, "created_at")?,
    })
}
