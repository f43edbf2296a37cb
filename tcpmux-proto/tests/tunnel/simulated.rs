//! Two sessions over a simulated network: virtual time, latency, bandwidth, any chunking. A failing run replays from its seed.

use std::{
    collections::{BTreeMap, VecDeque},
    io::IoSlice,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tcpmux_proto::mux::{Event, Limits, Outbox, Read, Role, Room, Session};

use crate::support::pattern;

/// What the two ends of a stream want to do.
#[derive(Debug, Clone)]
struct Plan {
    /// Which side opens it, and how much each side sends before it ends its half.
    opener: usize,
    bytes: [usize; 2],
    ending: [Ending; 2],
    /// Bytes read in one go; few make a slow reader.
    appetite: [usize; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Finish,
    /// Dropped once everything was handed over, without FIN.
    Drop,
}

/// How a reader saw the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Finished,
    Reset,
}

/// One side of the simulation.
struct Side {
    session: Session,
    out: Outbox,
    /// Bytes on their way to the other side, and when they arrive.
    wire: VecDeque<(Duration, Vec<u8>)>,
    under_way: usize,
    /// When the narrowest place of the way has passed on all that was sent.
    busy_until: Duration,
    /// By plan: the stream here, once there is one.
    ids: BTreeMap<usize, u32>,
    written: Vec<usize>,
    ended: Vec<bool>,
    got: Vec<Vec<u8>>,
    seen: Vec<Seen>,
}

struct World {
    sides: [Side; 2],
    plans: Vec<Plan>,
    /// What each side sends, by plan.
    bytes: [Vec<Bytes>; 2],
    now: Duration,
    random: u64,
    latency: Duration,
    /// What a byte takes at the narrowest place.
    each_byte: Duration,
    /// What one write of the socket takes, and one read gives, at most.
    chunk: usize,
    /// Bytes the wire holds before the socket blocks.
    capacity: usize,
}

impl World {
    fn new(plans: Vec<Plan>, latency: u64, chunk: usize, seed: u64, limits: Limits) -> Self {
        let side = |role| Side {
            session: Session::new(role, limits.clone(), Duration::ZERO),
            out: Outbox::default(),
            wire: VecDeque::new(),
            under_way: 0,
            busy_until: Duration::ZERO,
            ids: BTreeMap::new(),
            written: vec![0; plans.len()],
            ended: vec![false; plans.len()],
            got: vec![Vec::new(); plans.len()],
            seen: vec![Seen::Nothing; plans.len()],
        };
        Self {
            sides: [side(Role::Client), side(Role::Server)],
            bytes: [0, 1].map(|at| {
                let sizes = plans.iter().map(|plan| plan.bytes[at]).enumerate();
                sizes.map(|(plan, size)| pattern(plan * 2 + at, size).into()).collect()
            }),
            plans: plans.clone(),
            now: Duration::ZERO,
            random: seed | 1,
            latency: Duration::from_micros(latency),
            each_byte: Duration::ZERO,
            chunk,
            capacity: 200_000,
        }
    }

    fn dice(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    /// Runs until nothing moves any more.
    fn run(&mut self) {
        for plan in 0..self.plans.len() {
            let side = &mut self.sides[self.plans[plan].opener];
            let id = side.session.open().unwrap();
            side.ids.insert(plan, id);
            // The first byte says which plan this is.
            side.session.write_copy(id, &[plan as u8], self.now);
        }
        let mut quiet = 0;
        while quiet < 100 {
            let first = self.dice(2);
            let moved = self.step(first) | self.step(1 - first);
            quiet = if moved { 0 } else { quiet + 1 };
            let arrivals = self.sides.iter().filter_map(|side| side.wire.front().map(|(at, _)| *at));
            let next = arrivals.min().filter(|_| !moved).unwrap_or(self.now + Duration::from_micros(10));
            self.now = self.now.max(next);
            assert!(self.now < Duration::from_secs(300), "it does not come to an end");
        }
    }

    fn step(&mut self, at: usize) -> bool {
        let mut moved = self.receive(at);
        self.news(at);
        for plan in 0..self.plans.len() {
            moved |= self.act(at, plan);
        }
        self.sides[at].session.tick(self.now);
        moved | self.send(at)
    }

    fn receive(&mut self, at: usize) -> bool {
        let mut moved = false;
        while self.sides[1 - at].wire.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, bytes) = self.sides[1 - at].wire.pop_front().unwrap();
            self.sides[1 - at].under_way -= bytes.len();
            let split = 1 + self.dice(bytes.len());
            for part in [&bytes[..split], &bytes[split..]] {
                self.sides[at].session.receive(&mut BytesMut::from(part), self.now);
            }
            moved = true;
        }
        moved
    }

    fn news(&mut self, at: usize) {
        let side = &mut self.sides[at];
        while let Some(event) = side.session.poll_event() {
            if let Event::Opened(id) = event {
                match side.session.read(id, self.now) {
                    Read::Data(bytes) => {
                        let plan = usize::from(bytes[0]);
                        side.ids.insert(plan, id);
                        side.got[plan].extend_from_slice(&bytes[1..]);
                    }
                    // Its first byte is on its way: remembered under no plan until then.
                    Read::Wait => {
                        side.ids.insert(UNKNOWN + id as usize, id);
                    }
                    _ => side.session.release(id, self.now),
                }
            }
        }
        let unknown: Vec<usize> = side.ids.range(UNKNOWN..).map(|(key, _)| *key).collect();
        for key in unknown {
            let id = side.ids[&key];
            match side.session.read(id, self.now) {
                Read::Wait => {}
                Read::Data(bytes) => {
                    side.ids.remove(&key);
                    side.ids.insert(usize::from(bytes[0]), id);
                    side.got[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
                }
                _ => {
                    side.ids.remove(&key);
                    side.session.release(id, self.now);
                }
            }
        }
    }

    fn act(&mut self, at: usize, plan: usize) -> bool {
        let Some(id) = self.sides[at].ids.get(&plan).copied() else { return false };
        let Plan { bytes: sizes, ending, appetite, .. } = self.plans[plan].clone();
        let mut moved = false;
        if self.dice(4) < appetite[at] && self.sides[at].seen[plan] == Seen::Nothing {
            let side = &mut self.sides[at];
            match side.session.read(id, self.now) {
                Read::Data(bytes) => {
                    side.got[plan].extend_from_slice(&bytes);
                    moved = true;
                }
                Read::Finished => side.seen[plan] = Seen::Finished,
                Read::Reset => side.seen[plan] = Seen::Reset,
                Read::Wait => {}
                Read::Ended => panic!("the session ended: {:?}", side.session.ended()),
            }
        }
        let most = 1 + self.dice(60_000);
        let side = &mut self.sides[at];
        let left = sizes[at] - side.written[plan];
        match side.session.room(id) {
            Room::Bytes(room) if left > 0 => {
                let count = left.min(room).min(most);
                let from = side.written[plan];
                side.session.write(id, self.bytes[at][plan].slice(from..from + count), self.now);
                side.written[plan] += count;
                return true;
            }
            Room::Bytes(_) if !side.ended[plan] => {
                side.ended[plan] = true;
                match ending[at] {
                    Ending::Finish => side.session.finish(id, self.now),
                    Ending::Drop => {
                        side.session.release(id, self.now);
                        side.ids.remove(&plan);
                    }
                }
                return true;
            }
            Room::Ended => panic!("the session ended: {:?}", side.session.ended()),
            _ => {}
        }
        // Both halves are over for this side: let go.
        let over = side.seen[plan] == Seen::Reset || (side.seen[plan] == Seen::Finished && side.ended[plan]);
        if over {
            side.session.release(id, self.now);
            side.ids.remove(&plan);
        }
        moved | over
    }

    fn send(&mut self, at: usize) -> bool {
        let chunk = 1 + self.dice(self.chunk);
        let side = &mut self.sides[at];
        side.session.transmit(&mut side.out, 64 * 1024, self.now);
        if side.out.is_empty() || side.under_way > self.capacity {
            return false;
        }
        let mut slices = [IoSlice::new(&[]); 8];
        let count = side.out.slices(&mut slices);
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(chunk);
        side.out.advance(bytes.len());
        side.under_way += bytes.len();
        side.busy_until = side.busy_until.max(self.now) + self.each_byte * bytes.len() as u32;
        side.wire.push_back((side.busy_until + self.latency, bytes));
        true
    }

    /// What must hold once everything has come to rest.
    fn check(&self) -> Result<(), TestCaseError> {
        for (plan, spec) in self.plans.iter().enumerate() {
            for at in 0..2 {
                let (from, to) = (&self.sides[at], &self.sides[1 - at]);
                let sent = &self.bytes[at][plan][..from.written[plan]];
                let got = &to.got[plan];
                prop_assert!(sent.starts_with(got), "plan {plan}: nothing lost, doubled or out of order");
                match to.seen[plan] {
                    Seen::Finished => {
                        prop_assert_eq!(spec.ending[at], Ending::Finish, "an end only where there was one");
                        prop_assert!(from.ended[plan]);
                        prop_assert_eq!(got.len(), spec.bytes[at], "an end after all bytes");
                    }
                    Seen::Reset => {
                        prop_assert!(spec.ending[at] == Ending::Drop || from.seen[plan] == Seen::Reset)
                    }
                    // It was dropped here first, or it never arrived here.
                    Seen::Nothing => prop_assert!(!to.ids.contains_key(&plan), "plan {plan}: left waiting"),
                }
                if spec.ending == [Ending::Finish; 2] {
                    prop_assert_eq!(to.seen[plan], Seen::Finished, "plan {}", plan);
                }
            }
        }
        for side in &self.sides {
            prop_assert_eq!(side.session.ended(), None);
            prop_assert_eq!(side.session.stream_count(), 0, "nothing is left behind");
        }
        Ok(())
    }
}

/// Keys beyond all plans: streams whose plan is not known yet.
const UNKNOWN: usize = 1 << 32;

fn limits() -> Limits {
    Limits {
        open_streams: 64,
        inbound_streams: 64,
        max_window: 2 << 20,
        window_budget: 3 << 20,
        heartbeat: Duration::from_secs(20),
        silence: Duration::from_secs(28),
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let size = prop_oneof![Just(0_usize), 1..100_usize, 1000..20_000_usize, 260_000..330_000_usize];
    let ending = prop_oneof![3 => Just(Ending::Finish), 1 => Just(Ending::Drop)];
    (0..2_usize, [size.clone(), size], [ending.clone(), ending], [1..5_usize, 1..5_usize])
        .prop_map(|(opener, bytes, ending, appetite)| Plan { opener, bytes, ending, appetite })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_the_network_does_both_ends_agree_on_bytes_and_endings(
        plans in prop::collection::vec(plan(), 1..10),
        latency in prop_oneof![Just(0_u64), 1..1000_u64, Just(50_000)],
        chunk in prop_oneof![1..100_usize, 1000..70_000_usize],
        // From no limit down to 4 Mbit/s.
        each_byte in prop_oneof![Just(0_u64), 1..2000_u64],
        seed in any::<u64>(),
    ) {
        // Small chunks of large bodies take long and show nothing new.
        let total: usize = plans.iter().flat_map(|plan| plan.bytes).sum();
        let chunk = chunk.max(total / 300);
        let mut world = World::new(plans, latency, chunk, seed, limits());
        world.each_byte = Duration::from_nanos(each_byte);
        world.run();
        world.check()?;
    }
}

#[test]
fn a_window_grows_with_the_distance_so_that_one_stream_fills_a_long_path() {
    let bulk = Plan { opener: 0, bytes: [16 << 20, 0], ending: [Ending::Finish; 2], appetite: [4, 4] };
    let limits = Limits { max_window: 16 << 20, window_budget: 64 << 20, ..limits() };
    let mut world = World::new(vec![bulk], 25_000, 65_536, 1, limits);
    world.capacity = usize::MAX;
    world.run();
    world.check().unwrap();
    // With the first window alone it would be 64 round trips of 50 ms.
    assert!(world.now < Duration::from_millis(900), "took {:?}", world.now);
}

#[test]
fn a_small_answer_does_not_wait_behind_a_download() {
    let mut limits = limits();
    limits.max_window = 256 * 1024;
    let mut side = Session::new(Role::Server, limits, Duration::ZERO);
    let now = Duration::from_millis(1);
    let bulk = side.open().unwrap();
    let small = side.open().unwrap();
    let mut out = Outbox::default();
    side.write(bulk, vec![0; 100_000].into(), now);
    side.transmit(&mut out, 80_000, now);
    out.advance(out.len());
    side.write(bulk, vec![0; 100_000].into(), now);
    side.write_copy(small, b"answer", now);
    side.transmit(&mut out, 1, now);
    assert_eq!(out.len(), 12 + 6, "the small one goes first although the download waits longer");
}
