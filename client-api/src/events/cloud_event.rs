//! Events as the world sees them: CloudEvents 1.0 in JSON.

use model::{DeviceId, UserId};
use serde::Serialize;
use serde_json::Value;
use store::EventRow;
use utoipa::ToSchema;

/// An event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event, example = json!({
    "specversion": "1.0", "id": "ev_4711", "source": "/tenants/default/devices/cam-01", "type": "telemetry",
    "subject": "cam-01", "time": "2026-11-21T21:31:00.250Z", "datacontenttype": "application/json",
    "tenant": "default", "data": {"temperature": 21.5},
}))]
pub(crate) struct CloudEvent<'a> {
    specversion: &'static str,
    /// `ev_` and its number in the log: later events have greater ones.
    id: String,
    source: String,
    /// As in `device.connected`; the part of the topic after the tenant.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The device that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    subject: Option<&'a DeviceId>,
    /// When it happened.
    #[schema(format = DateTime)]
    time: String,
    datacontenttype: &'static str,
    tenant: &'a str,
    /// The user that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    user: Option<&'a UserId>,
    data: &'a Value,
}

impl<'a> CloudEvent<'a> {
    /// An event of the log.
    pub(crate) fn of(row: &'a EventRow) -> Self {
        Self::with_data(row, &row.event.data)
    }

    /// The same with a part of what it says.
    pub(crate) fn with_data(row: &'a EventRow, data: &'a Value) -> Self {
        let event = &row.event;
        let source = match &event.device {
            Some(device) => format!("/tenants/{}/devices/{device}", event.tenant),
            None => format!("/tenants/{}", event.tenant),
        };
        Self {
            specversion: "1.0",
            id: id(row.seq),
            source,
            kind: &event.subject,
            subject: event.device.as_ref(),
            time: event.at.rfc3339_millis(),
            datacontenttype: "application/json",
            tenant: event.tenant.as_str(),
            user: event.user.as_ref(),
            data,
        }
    }

    /// Its JSON text.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("an event is made of texts and JSON")
    }
}

/// The `id` of an event.
pub(crate) fn id(seq: u64) -> String {
    format!("ev_{seq}")
}

/// The number in an `id`.
pub(crate) fn number(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("ev_")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}
