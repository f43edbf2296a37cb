//! How a user wants to be told, as JSON whose meaning is the room's.

use model::{TenantName, UserId};
use sqlx::SqliteConnection;

use crate::{Store, StoreError};

impl Store {
    /// A user's settings; `None` before the user has said anything.
    pub async fn notification_settings(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Option<String>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| Box::pin(async move { of_user(c, &tenant, &user).await })).await
    }

    /// Keeps a user's settings.
    pub async fn put_notification_settings(
        &self,
        tenant: &TenantName,
        user: &UserId,
        settings: String,
    ) -> Result<(), StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.write(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO notification_settings (tenant, user, settings) VALUES (?, ?, ?)
                     ON CONFLICT (tenant, user) DO UPDATE SET settings = excluded.settings",
                )
                .bind(tenant.as_str())
                .bind(user.as_str())
                .bind(settings)
                .execute(c)
                .await?;
                Ok(())
            })
        })
        .await
    }
}

pub(crate) async fn of_user(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    user: &UserId,
) -> Result<Option<String>, StoreError> {
    let found =
        sqlx::query_scalar("SELECT settings FROM notification_settings WHERE tenant = ? AND user = ?")
            .bind(tenant.as_str())
            .bind(user.as_str());
    Ok(found.fetch_optional(c).await?)
}
