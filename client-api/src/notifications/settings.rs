//! How a person wants to be told.

use std::{collections::BTreeSet, sync::Arc};

use axum::response::Response;
use model::{Code, DeviceId, Refusal, Severity, UserActor};
use runtime::http::{Refused, Unproven, ok};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::notice::Told;
use crate::{api::Inner, call::Call};

/// How you want to be told. The inbox keeps everything; this is about what is sent to you.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NotificationSettings)]
pub(crate) struct Settings {
    /// Which channels carry notifications.
    #[serde(default)]
    pub(crate) channels: Channels,
    /// Only what is at least this bad is sent.
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(info|warning|error|critical)$")]
    pub(crate) minimum_severity: Severity,
    /// Devices whose notifications are not sent; at most 100.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 100)]
    pub(crate) quiet_devices: BTreeSet<DeviceId>,
}

/// Which channels carry notifications. Webhooks carry events of other types as they ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Channels {
    /// Your webhooks.
    pub(crate) webhook: bool,
    /// Your apps, by push message.
    pub(crate) fcm: bool,
}

impl Default for Channels {
    fn default() -> Self {
        Self { webhook: true, fcm: true }
    }
}

impl Settings {
    /// What the store keeps; the usual where it keeps nothing.
    pub(crate) fn read(kept: Option<&str>) -> Self {
        kept.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Whether this notification is to be sent at all.
    pub(crate) fn lets_through(&self, told: &Told<'_>) -> bool {
        told.notice.severity >= self.minimum_severity
            && told.device.is_none_or(|device| !self.quiet_devices.contains(device))
    }
}

/// How you want to be told
#[utoipa::path(
    get,
    path = "/v1/notifications/settings",
    tag = "notifications",
    operation_id = "showNotificationSettings",
    responses((status = 200, description = "The settings.", body = Settings), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn show(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let user = &call.actor;
    let kept = api.store.notification_settings(user.tenant(), user.user()).await;
    let kept = kept.map_err(|error| error.refusal("reading notification settings"))?;
    Ok(ok(&Settings::read(kept.as_deref())))
}

/// Say how you want to be told
///
/// Members that are absent are set to what is usual.
#[utoipa::path(
    put,
    path = "/v1/notifications/settings",
    tag = "notifications",
    operation_id = "putNotificationSettings",
    request_body = Settings,
    responses((status = 200, description = "The settings from now on.", body = Settings), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn put(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let user = call.actor.clone();
    let settings: Settings = call.json().await?;
    if settings.quiet_devices.len() > MOST_QUIET {
        return Err(Refusal::new(Code::BadRequest, format!("quiet_devices: at most {MOST_QUIET}")));
    }
    let text = serde_json::json!(settings).to_string();
    let kept = api.store.put_notification_settings(user.tenant(), user.user(), text).await;
    kept.map_err(|error| error.refusal("keeping notification settings"))?;
    Ok(ok(&settings))
}

const MOST_QUIET: usize = 100;
