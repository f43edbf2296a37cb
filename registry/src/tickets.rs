//! Tickets kept in this process: each is given once, to one who takes it in time.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use model::{TenantName, TicketDigest, TicketRecord, Timestamp, UserId};

use crate::error::{RegistryError, TICKETS_KEPT, TICKETS_PER_USER};

#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<Kept>);

/// Bounded by [`TICKETS_KEPT`] and, for each user, by [`TICKETS_PER_USER`]. What has expired goes when
/// the next one comes.
#[derive(Debug, Default)]
struct Kept {
    records: HashMap<TicketDigest, TicketRecord>,
    ends: BTreeSet<(Timestamp, TicketDigest)>,
    of_user: HashMap<(TenantName, UserId), usize>,
}

impl Tickets {
    pub(crate) fn put(
        &self,
        digest: TicketDigest,
        record: TicketRecord,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_expired(now);
        if kept.records.contains_key(&digest) {
            return Err(RegistryError::Taken);
        }
        if kept.records.len() >= TICKETS_KEPT {
            return Err(RegistryError::TooMany);
        }
        let of_user = kept.of_user.entry((record.tenant.clone(), record.user.clone())).or_default();
        if *of_user >= TICKETS_PER_USER {
            return Err(RegistryError::TooManyOfUser);
        }
        *of_user += 1;
        kept.ends.insert((record.expires_at, digest));
        kept.records.insert(digest, record);
        Ok(())
    }

    pub(crate) fn take(&self, digest: &TicketDigest, now: Timestamp) -> Option<TicketRecord> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(digest).filter(|record| now < record.expires_at)
    }

    #[cfg(test)]
    fn len(&self) -> (usize, usize, usize) {
        let kept = self.0.lock().unwrap();
        (kept.records.len(), kept.ends.len(), kept.of_user.len())
    }
}

impl Kept {
    fn forget_expired(&mut self, now: Timestamp) {
        while let Some((end, digest)) = self.ends.first().copied()
            && end <= now
        {
            self.remove(&digest);
        }
    }

    fn remove(&mut self, digest: &TicketDigest) -> Option<TicketRecord> {
        let record = self.records.remove(digest)?;
        self.ends.remove(&(record.expires_at, *digest));
        if let Entry::Occupied(mut of_user) = self.of_user.entry((record.tenant.clone(), record.user.clone()))
        {
            *of_user.get_mut() -= 1;
            if *of_user.get() == 0 {
                of_user.remove();
            }
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use model::{ServiceSet, TicketPurpose};

    use super::*;

    fn digest(number: usize) -> TicketDigest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        TicketDigest(bytes)
    }

    fn ticket_of(user: usize, expires_at: i64) -> TicketRecord {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&user.to_be_bytes());
        TicketRecord {
            tenant: TenantName::default(),
            user: UserId::from_random(bytes),
            device: None,
            only: None,
            service: None,
            level: None,
            services: ServiceSet::all(),
            grant_sequence: 0,
            until: Timestamp(expires_at),
            expires_at: Timestamp(expires_at),
            purpose: TicketPurpose::Topics,
        }
    }

    #[test]
    fn a_ticket_is_given_once_and_never_after_its_end() {
        let tickets = Tickets::default();
        tickets.put(digest(1), ticket_of(1, 60), Timestamp(0)).unwrap();
        tickets.put(digest(2), ticket_of(1, 60), Timestamp(0)).unwrap();
        assert_eq!(tickets.put(digest(2), ticket_of(2, 90), Timestamp(0)), Err(RegistryError::Taken));
        assert_eq!(tickets.take(&digest(1), Timestamp(59)), Some(ticket_of(1, 60)));
        assert_eq!(tickets.take(&digest(1), Timestamp(59)), None);
        assert_eq!(tickets.take(&digest(2), Timestamp(60)), None);
        assert_eq!(tickets.take(&digest(2), Timestamp(0)), None, "a clock set back does not bring it back");
        assert_eq!(tickets.len(), (0, 0, 0));
    }

    /// Who comes first to each of so many tickets, all racers starting at once; how many were given each.
    fn races(rounds: usize, take: impl Fn(&Tickets, usize) -> bool + Sync) -> Vec<usize> {
        const RACERS: usize = 50;
        let tickets = Tickets::default();
        for round in 0..rounds {
            tickets.put(digest(round), ticket_of(round, 60), Timestamp(0)).unwrap();
        }
        let start = std::sync::Barrier::new(RACERS);
        let given: Vec<AtomicUsize> = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..RACERS {
                scope.spawn(|| {
                    for (round, given) in given.iter().enumerate() {
                        start.wait();
                        given.fetch_add(usize::from(take(&tickets, round)), Ordering::Relaxed);
                    }
                });
            }
        });
        given.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn in_ten_thousand_races_of_fifty_each_ticket_is_given_once() {
        let given = races(10_000, |tickets, round| tickets.take(&digest(round), Timestamp(1)).is_some());
        assert!(given.iter().all(|given| *given == 1), "{given:?}");
    }

    #[test]
    fn control_a_look_before_the_taking_gives_some_twice() {
        let given = races(1000, |tickets, round| {
            let is_there = tickets.0.lock().unwrap().records.contains_key(&digest(round));
            std::thread::yield_now();
            tickets.take(&digest(round), Timestamp(1));
            is_there
        });
        assert!(given.iter().any(|given| *given > 1), "the races are none");
    }

    #[test]
    fn a_user_holds_so_many_and_no_more_until_some_are_used_or_end() {
        let tickets = Tickets::default();
        for number in 0..TICKETS_PER_USER {
            tickets.put(digest(number), ticket_of(1, 60), Timestamp(0)).unwrap();
        }
        let one_more = |user, now| tickets.put(digest(1000 + user), ticket_of(user, 120), Timestamp(now));
        assert_eq!(one_more(1, 59), Err(RegistryError::TooManyOfUser));
        assert_eq!(one_more(2, 59), Ok(()), "another user's are another user's");
        assert!(tickets.take(&digest(0), Timestamp(59)).is_some());
        assert_eq!(one_more(1, 59), Ok(()));
        assert_eq!(tickets.put(digest(7777), ticket_of(1, 120), Timestamp(60)), Ok(()));
        assert_eq!(tickets.len(), (3, 3, 2), "what has expired is gone");
    }

    #[test]
    fn all_users_together_hold_so_many_and_no_more() {
        let tickets = Tickets::default();
        for number in 0..TICKETS_KEPT {
            tickets.put(digest(number), ticket_of(number / TICKETS_PER_USER, 60), Timestamp(0)).unwrap();
        }
        let one_more = |now| tickets.put(digest(TICKETS_KEPT), ticket_of(TICKETS_KEPT, 120), Timestamp(now));
        assert_eq!(one_more(59), Err(RegistryError::TooMany));
        assert_eq!(one_more(60), Ok(()));
        assert_eq!(tickets.len(), (1, 1, 1));
    }
}
