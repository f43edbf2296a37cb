//! What the doors saw and an auditor should read: certificates that verified and were not admitted, and clones.

use std::sync::Arc;

use model::Event;
use store::AuditEntry;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::provisioning::Provisioning;

impl Provisioning {
    /// Writes an audit row for each alarm until the process ends; rows are bounded as those of other failures.
    pub(crate) async fn note_alarms(self: Arc<Self>, mut events: Receiver<Event>) {
        loop {
            let entry = match events.recv().await {
                Ok(event) => alarm(&event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "alarms may be missing from the audit");
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            if let Some(entry) = entry
                && let Err(error) = self.audit_failure(entry).await
            {
                tracing::warn!(%error, "an alarm was not audited");
            }
        }
    }
}

/// The row that an event leaves, if it is an alarm.
fn alarm(event: &Event) -> Option<AuditEntry> {
    let (action, outcome, detail) = match event {
        Event::DeviceRefused { certificate, reason, .. } => {
            ("device.connect", "refused", format!("{certificate}: {reason}"))
        }
        Event::CloneSuspected { .. } => {
            ("device.connect", "clone-suspected", "one certificate is used from two places".into())
        }
        _ => return None,
    };
    let object = format!("device:{}", event.device()?);
    Some(AuditEntry { actor: object.clone(), action, object, outcome, detail })
}
