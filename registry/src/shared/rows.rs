//! The table of sessions that all nodes share: one row a device.
//!
//! A row counts while its node lives, which one lease for each node says, and ends by itself if nobody says
//! again that its session stands.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::{DeviceRef, Generation, Timestamp};

use super::{Away, Shared, keys};
use crate::SessionRecord;

/// Sessions that ended and whose rows may still be there. Bounded: what is forgotten ends with its lease.
#[derive(Debug, Default)]
pub(super) struct Departures(Mutex<HashMap<DeviceRef, Generation>>);

impl Departures {
    pub(super) fn note(&self, device: &DeviceRef, generation: Generation) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < DEPARTURES_KEPT {
            let last = waiting.entry(device.clone()).or_default();
            *last = generation.max(*last);
        }
    }

    /// Some of them. They stay until they are [`Departures::done`]: whoever takes their rows away may be cut off.
    fn some(&self) -> Vec<(DeviceRef, Generation)> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().take(ROWS_AT_ONCE).map(|(device, generation)| (device.clone(), *generation)).collect()
    }

    fn done(&self, gone: &[(DeviceRef, Generation)]) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (device, generation) in gone {
            if waiting.get(device) == Some(generation) {
                waiting.remove(device);
            }
        }
    }
}

impl Shared {
    /// Agrees with the other nodes on a session's generation and writes its row. The session that lost its
    /// place on another node is returned too.
    pub(crate) async fn enter(
        &self,
        record: &SessionRecord,
        proposed: Generation,
    ) -> Result<(Generation, Option<SessionRecord>), Away> {
        let mut call = self.scripts.enter.prepare_invoke();
        call.key(keys::session(&record.device)).key(keys::COUNTER).key(keys::NODES);
        call.arg(proposed.0).arg(record.session.as_str()).arg(self.node.as_str()).arg(json(record));
        call.arg(record.verified_at.millis()).arg(millis(ROW_LEASE));
        let answer: Vec<String> = self.link.run(&call).await?;
        let generation = answer.first().and_then(|text| text.parse().ok()).map(Generation);
        let generation =
            generation.ok_or_else(|| Away("it answers something else than a generation".into()))?;
        Ok((generation, answer.get(1..).and_then(row)))
    }

    /// The session of a device on a live node.
    pub(crate) async fn find(&self, device: &DeviceRef) -> Result<Option<SessionRecord>, Away> {
        let mut call = self.scripts.find.prepare_invoke();
        call.key(keys::session(device)).key(keys::NODES);
        let answer: Vec<String> = self.link.run(&call).await?;
        Ok(row(&answer).filter(|record| record.device == *device))
    }

    /// The row of a session that ended is taken away as soon as the link is up.
    pub(crate) fn leave(&self, device: &DeviceRef, generation: Generation) {
        self.departures.note(device, generation);
        self.departed.notify_one();
    }

    /// Takes away rows of sessions that ended.
    pub(super) async fn flush_departures(&self) -> Result<(), Away> {
        loop {
            let gone = self.departures.some();
            if gone.is_empty() {
                return Ok(());
            }
            let mut call = self.scripts.leave.prepare_invoke();
            for (device, generation) in &gone {
                call.key(keys::session(device)).arg(generation.0);
            }
            self.link.run::<usize>(&call).await?;
            self.departures.done(&gone);
        }
    }

    /// Says of sessions of this node that they stand, and writes the rows that are not there. Returns those
    /// that have to give way to a newer one elsewhere, with its generation.
    pub(super) async fn stand(
        &self,
        sessions: &[SessionRecord],
    ) -> Result<Vec<(DeviceRef, Generation)>, Away> {
        let mut newer = vec![];
        for some in sessions.chunks(ROWS_AT_ONCE) {
            let answers = self.say_standing(some, false).await?;
            let missing = pick(some, &answers, |answer| answer == "missing");
            newer.extend(superseded(some, &answers));
            if !missing.is_empty() {
                let answers = self.say_standing(&missing, true).await?;
                newer.extend(superseded(&missing, &answers));
            }
        }
        Ok(newer)
    }

    async fn say_standing(&self, sessions: &[SessionRecord], whole: bool) -> Result<Vec<String>, Away> {
        let mut call = self.scripts.stand.prepare_invoke();
        call.key(keys::COUNTER).key(keys::NODES);
        call.arg(self.node.as_str()).arg(millis(ROW_LEASE));
        for record in sessions {
            call.key(keys::session(&record.device));
            call.arg(record.generation.0).arg(record.session.as_str()).arg(record.verified_at.millis());
            call.arg(if whole { json(record) } else { String::new() });
        }
        self.link.run(&call).await
    }
}

fn pick(sessions: &[SessionRecord], answers: &[String], wanted: impl Fn(&str) -> bool) -> Vec<SessionRecord> {
    let both = sessions.iter().zip(answers);
    both.filter(|(_, answer)| wanted(answer)).map(|(record, _)| record.clone()).collect()
}

fn superseded(sessions: &[SessionRecord], answers: &[String]) -> Vec<(DeviceRef, Generation)> {
    let generation = |answer: &String| answer.parse().ok().map(Generation);
    let both = sessions.iter().zip(answers);
    both.filter_map(|(record, answer)| Some((record.device.clone(), generation(answer)?))).collect()
}

/// A row: generation, record, verified at. The first and the last are newer than the record.
fn row(fields: &[String]) -> Option<SessionRecord> {
    let [generation, record, verified_at] = fields else { return None };
    let mut record: SessionRecord = serde_json::from_str(record).ok()?;
    record.generation = Generation(generation.parse().ok()?);
    record.verified_at = Timestamp(verified_at.parse().ok()?);
    Some(record)
}

fn json(record: &SessionRecord) -> String {
    serde_json::to_string(record).expect("a record of names and numbers has a JSON form")
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// After this a row of which nobody speaks is gone.
const ROW_LEASE: Duration = Duration::from_secs(25);
const ROWS_AT_ONCE: usize = 128;
const DEPARTURES_KEPT: usize = 65_536;
