//! An event of the log as CloudEvents 1.0 in JSON. Pure.

use serde_json::{Value, json};
use store::EventRow;

/// The event for those outside.
pub(crate) fn of(row: &EventRow) -> Value {
    let event = &row.event;
    let mut source = format!("/tenants/{}", event.tenant);
    if let Some(device) = &event.device {
        source += &format!("/devices/{device}");
    }
    json!({
        "specversion": "1.0",
        "id": format!("ev_{}", row.seq),
        "source": source,
        "type": event.subject,
        "time": event.at.rfc3339(),
        "datacontenttype": "application/json",
        "data": event.data,
    })
}
