//! Streams that wait for the device's answer, bounded by service.
//!
//! A local service that hangs must not eat all streams of its device; a burst that a healthy one
//! answers in a moment should not be refused. So what is over the bound queues for a little while.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tcpmux_proto::Destination;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The turns of one session. Holds no more services than it has streams that wait.
#[derive(Debug)]
pub(crate) struct Pending {
    most: usize,
    longest_queueing: Duration,
    services: Mutex<HashMap<Destination, Turns>>,
}

#[derive(Debug)]
struct Turns {
    free: Arc<Semaphore>,
    /// Those who have a turn or queue for one.
    takers: usize,
}

/// One pending stream; dropped when the device has answered or the stream has ended.
#[derive(Debug)]
pub(crate) struct Waiting {
    // Dropped in this order: nobody finds a place in the queue before the turn is free.
    _turn: OwnedSemaphorePermit,
    _taker: Taker,
}

#[derive(Debug)]
struct Taker {
    pending: Arc<Pending>,
    service: Destination,
}

impl Pending {
    /// At most this many streams of a service wait for the device at a time; one more queues for so long at most.
    pub(crate) fn new(most: usize, longest_queueing: Duration) -> Self {
        Self { most, longest_queueing, services: Mutex::default() }
    }

    /// A turn for one more stream to a service; `None` if too many queue, or queued for too long.
    pub(crate) async fn turn(self: &Arc<Self>, service: &Destination) -> Option<Waiting> {
        let (free, taker) = self.join(service)?;
        let turn = match Arc::clone(&free).try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) => timeout(self.longest_queueing, free.acquire_owned()).await.ok()?.ok()?,
        };
        Some(Waiting { _turn: turn, _taker: taker })
    }

    fn join(self: &Arc<Self>, service: &Destination) -> Option<(Arc<Semaphore>, Taker)> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = services
            .entry(service.clone())
            .or_insert_with(|| Turns { free: Arc::new(Semaphore::new(self.most)), takers: 0 });
        if turns.takers >= self.most + QUEUED {
            return None;
        }
        turns.takers += 1;
        let taker = Taker { pending: Arc::clone(self), service: service.clone() };
        Some((Arc::clone(&turns.free), taker))
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut services = self.pending.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut turns) = services.entry(self.service.clone()) {
            turns.get_mut().takers -= 1;
            if turns.get().takers == 0 {
                turns.remove();
            }
        }
    }
}

/// How many streams of a service may queue for a turn.
const QUEUED: usize = 448;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_service_has_its_own_turns_and_nothing_remains_of_the_answered() {
        let pending = Arc::new(Pending::new(2, SECOND));
        let (web, shell): (Destination, Destination) = ("web".parse().unwrap(), "shell".parse().unwrap());
        let first = pending.turn(&web).await.unwrap();
        let second = pending.turn(&web).await.unwrap();
        assert!(pending.turn(&web).await.is_none(), "nobody gave a turn back");
        let other = pending.turn(&shell).await.unwrap();
        drop(first);
        let third = pending.turn(&web).await.unwrap();
        drop((second, third, other));
        assert!(pending.services.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_for_the_next_answer() {
        let pending = Arc::new(Pending::new(1, SECOND));
        let web: Destination = "web".parse().unwrap();
        let first = pending.turn(&web).await.unwrap();
        let answered = async {
            tokio::time::sleep(SECOND / 2).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(pending.turn(&web), answered);
        assert!(second.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let pending = Arc::new(Pending::new(1, SECOND));
        let web: Destination = "web".parse().unwrap();
        let _first = pending.turn(&web).await.unwrap();
        let mut queue: Vec<_> = (0..QUEUED).map(|_| Box::pin(pending.turn(&web))).collect();
        for one in &mut queue {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(futures_util::poll!(Box::pin(pending.turn(&web))), std::task::Poll::Ready(None)));
    }
}
