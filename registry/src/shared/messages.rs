//! What nodes tell each other, and what waits to be told.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use model::{Event, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{GrantChange, RevocationNotice};

/// One thing told to every other node. What a newer node says beyond this is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Message {
    /// Something happened.
    Event { event: Event },
    /// Rights changed.
    Grant { change: GrantChange },
    /// Certificates were revoked; close their tunnels and answer.
    Revoke { order: u64, notice: RevocationNotice },
    /// The answer: tunnels closed, and whether all who had to say so did.
    Revoked { to: NodeId, order: u64, closed: usize, complete: bool },
}

/// Messages that wait for the link. Numbered, so that one which was sent twice is heard once.
///
/// Bounded: past [`MESSAGES_KEPT`] the oldest of its kind is dropped and counted. Changes of rights and
/// revocations have a queue of their own, which no storm of events can empty, and go first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
    dropped: AtomicU64,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    changes: VecDeque<Message>,
    events: VecDeque<Message>,
    /// Numbered, and sent once already without an answer.
    again: VecDeque<(u64, Message)>,
    last: u64,
}

impl Outbox {
    pub(super) fn push(&self, message: Message) {
        {
            let mut queues = self.queues();
            let queue = match message {
                Message::Event { .. } => &mut queues.events,
                _ => &mut queues.changes,
            };
            if queue.len() >= MESSAGES_KEPT {
                queue.pop_front();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            queue.push_back(message);
        }
        self.news.notify_one();
    }

    /// The next messages with their numbers, at most `most`.
    pub(super) fn take(&self, most: usize) -> Vec<(u64, Message)> {
        let mut queues = self.queues();
        let mut taken = vec![];
        while taken.len() < most {
            if let Some(again) = queues.again.pop_front() {
                taken.push(again);
                continue;
            }
            let Some(message) = queues.changes.pop_front().or_else(|| queues.events.pop_front()) else {
                break;
            };
            queues.last += 1;
            taken.push((queues.last, message));
        }
        taken
    }

    /// Puts back what was taken last and perhaps not sent.
    pub(super) fn put_back(&self, messages: Vec<(u64, Message)>) {
        let mut queues = self.queues();
        for message in messages.into_iter().rev() {
            queues.again.push_front(message);
        }
    }

    pub(super) fn len(&self) -> usize {
        let queues = self.queues();
        queues.again.len() + queues.changes.len() + queues.events.len()
    }

    /// How many were never sent.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until something new is there.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages of one kind that wait at most.
const MESSAGES_KEPT: usize = 16_384;

#[cfg(test)]
mod tests {
    use model::{DeviceRef, TenantName, Timestamp};

    use super::*;

    fn event(at: i64) -> Message {
        let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
        Message::Event { event: Event::CloneSuspected { device, at: Timestamp(at) } }
    }

    fn change(sequence: u64) -> Message {
        let device = "cam-01".parse().unwrap();
        let change =
            GrantChange { tenant: TenantName::default(), user: None, device, sequence, at: Timestamp(0) };
        Message::Grant { change }
    }

    #[test]
    fn changes_go_first_and_what_was_not_answered_goes_again_under_its_number() {
        let outbox = Outbox::default();
        outbox.push(event(1));
        outbox.push(change(7));
        let taken = outbox.take(2);
        assert_eq!(taken, [(1, change(7)), (2, event(1))]);
        outbox.push(change(8));
        outbox.put_back(taken.clone());
        assert_eq!(outbox.len(), 3);
        assert_eq!(outbox.take(9), [taken, vec![(3, change(8))]].concat());
    }

    #[test]
    fn a_storm_of_events_drops_the_oldest_events_and_no_change() {
        let outbox = Outbox::default();
        outbox.push(change(1));
        for at in 0..MESSAGES_KEPT as i64 + 5 {
            outbox.push(event(at));
        }
        assert_eq!((outbox.len(), outbox.dropped()), (MESSAGES_KEPT + 1, 5));
        assert_eq!(outbox.take(2), [(1, change(1)), (2, event(5))]);
    }

    #[test]
    fn every_message_survives_its_json_and_that_of_a_later_version_is_an_error() {
        let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
        let notice =
            RevocationNotice { sequence: 3, device, certificates: vec![model::Fingerprint([1; 32])] };
        let to = NodeId::from_random([2; 16]);
        let answer = Message::Revoked { to, order: 9, closed: 1, complete: true };
        for message in [event(1), change(2), Message::Revoke { order: 9, notice }, answer] {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message, "{text}");
        }
        assert!(serde_json::from_str::<Message>(r#"{"what":"sing","song":"x"}"#).is_err());
    }
}
