//! What happened, for those who may know: live and from the log.
//!
//! One task reads the log ([`feed`]) and hands each event to the subscriptions that want it and may see it
//! ([`sight`]). People listen through server-sent events ([`event_stream`]) or WebSocket topics ([`topic_socket`]),
//! and look back with [`history`]. [`forgetting`] deletes what is too old.

pub(crate) mod cloud_event;
pub(crate) mod conditions;
pub(crate) mod event_stream;
pub(crate) mod feed;
pub(crate) mod fields;
pub(crate) mod forgetting;
pub(crate) mod history;
pub(crate) mod history_csv;
mod paths;
pub(crate) mod sight;
mod subscription;
pub(crate) mod topic;
pub(crate) mod topic_socket;

#[cfg(test)]
mod tests;
