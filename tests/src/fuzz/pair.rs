//! Two sessions joined by a wire, both in good faith: whatever they do and however the wire cuts, nothing is lost,
//! doubled or reordered, and both agree on how each stream ended.

use std::{collections::BTreeMap, io::IoSlice, sync::OnceLock, time::Duration};

use bytes::{Bytes, BytesMut};
use tcpmux_proto::mux::{Event, Limits, Outbox, Read, Role, Room, Session};

/// Bytes in pairs: what is done, and by how much. The highest bit of the first says on which side, the three below on
/// which stream; the rest is the deed.
pub(super) fn pair(bytes: &[u8]) {
    let mut world = World { sides: [Side::new(Role::Client), Side::new(Role::Server)], now: Duration::ZERO };
    for step in bytes.chunks_exact(2).take(256) {
        let (side, place) = (usize::from(step[0] >> 7), usize::from((step[0] >> 4) & 7));
        world.act(side, place, step[0] & 15, step[1]);
        world.check();
    }
    world.come_to_rest();
}

struct World {
    sides: [Side; 2],
    now: Duration,
}

struct Side {
    session: Session,
    out: Outbox,
    wire: BytesMut,
    /// Streams that somebody here holds, in the order in which they came.
    held: Vec<u32>,
    streams: BTreeMap<u32, Half>,
}

/// One side's view of a stream.
#[derive(Default)]
struct Half {
    written: usize,
    read: usize,
    finished: bool,
    dropped: bool,
    seen: Option<Read>,
}

impl Side {
    fn new(role: Role) -> Self {
        Self {
            session: Session::new(role, limits(), Duration::ZERO),
            out: Outbox::default(),
            wire: BytesMut::new(),
            held: Vec::new(),
            streams: BTreeMap::new(),
        }
    }

    fn half(&mut self, id: u32) -> &mut Half {
        self.streams.entry(id).or_default()
    }
}

impl World {
    fn act(&mut self, at: usize, place: usize, deed: u8, amount: u8) {
        let now = self.now;
        let side = &mut self.sides[at];
        let held = side.held.get(place % side.held.len().max(1)).copied();
        match (deed, held) {
            (0 | 1, _) => {
                if let Ok(id) = side.session.open() {
                    side.held.push(id);
                    side.half(id);
                }
            }
            (2..=4, Some(id)) => self.write(at, id, usize::from(amount) << (deed * 2)),
            (5 | 6, Some(id)) => {
                self.read(at, id);
            }
            (7, Some(id)) if !side.half(id).finished && !side.half(id).dropped => {
                side.session.finish(id, now);
                side.half(id).finished = true;
            }
            (8, Some(id)) => self.release(at, id),
            (9, _) => {
                self.now += Duration::from_millis(u64::from(amount));
                side.session.tick(self.now);
            }
            (10, _) if amount == 0 => side.session.shrink(),
            (10 | 11, _) => {
                self.send(at, 1 + (usize::from(amount) << 9));
            }
            (12..=15, _) => {
                self.deliver(at, 1 + (usize::from(amount) << (2 * (deed & 3))));
            }
            _ => {}
        }
    }

    fn write(&mut self, at: usize, id: u32, most: usize) {
        let side = &mut self.sides[at];
        let Room::Bytes(room) = side.session.room(id) else { return };
        let from = side.half(id).written;
        let count = most.min(room).min(PERIOD);
        side.session.write(id, content(id, at, from, count), self.now);
        side.half(id).written += count;
    }

    fn read(&mut self, at: usize, id: u32) -> bool {
        let side = &mut self.sides[at];
        match side.session.read(id, self.now) {
            Read::Data(bytes) => {
                let half = side.half(id);
                assert!(half.seen.is_none(), "bytes after the end");
                let mut from = half.read;
                for piece in bytes.chunks(PERIOD) {
                    assert!(piece == content(id, 1 - at, from, piece.len()), "stream {id} at {from}");
                    from += piece.len();
                }
                half.read += bytes.len();
                true
            }
            Read::Wait => false,
            Read::Ended => panic!("a session of good faith ended: {:?}", side.session.ended()),
            end => side.half(id).seen.replace(end).is_none(),
        }
    }

    fn release(&mut self, at: usize, id: u32) {
        let side = &mut self.sides[at];
        side.session.release(id, self.now);
        side.half(id).dropped = true;
        side.held.retain(|other| *other != id);
    }

    fn send(&mut self, at: usize, most: usize) -> bool {
        let side = &mut self.sides[at];
        side.session.transmit(&mut side.out, 64 * 1024, self.now);
        let mut slices = [IoSlice::new(&[]); 16];
        let count = side.out.slices(&mut slices);
        let mut sent = 0;
        for slice in &slices[..count] {
            let part = &slice[..slice.len().min(most - sent)];
            side.wire.extend_from_slice(part);
            sent += part.len();
        }
        side.out.advance(sent);
        sent > 0
    }

    fn deliver(&mut self, at: usize, most: usize) -> bool {
        let from = &mut self.sides[1 - at];
        let count = most.min(from.wire.len());
        let mut bytes = from.wire.split_to(count);
        let side = &mut self.sides[at];
        if count > 0 {
            side.session.receive(&mut bytes, self.now);
        }
        while let Some(event) = side.session.poll_event() {
            if let Event::Opened(id) = event {
                side.held.push(id);
                assert!(side.streams.insert(id, Half::default()).is_none(), "stream {id} opened twice");
            }
        }
        count > 0
    }

    /// What must hold at every moment.
    fn check(&self) {
        for side in &self.sides {
            assert_eq!(side.session.ended(), None, "both keep the rules");
            let streams = side.session.stream_count() + 1;
            assert!(side.session.held_bytes() <= streams * (384 << 10) + limits().window_budget);
        }
    }

    /// Everything under way arrives and is read; then both sides must tell the same story.
    fn come_to_rest(mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let mut moved = false;
            for at in 0..2 {
                moved |= self.send(at, usize::MAX) | self.deliver(at, usize::MAX);
                for id in self.sides[at].held.clone() {
                    moved |= self.read(at, id);
                }
            }
            quiet = if moved { 0 } else { quiet + 1 };
        }
        self.check();
        for at in 0..2 {
            for (id, here) in &self.sides[at].streams {
                let nothing = Half::default();
                let there = self.sides[1 - at].streams.get(id).unwrap_or(&nothing);
                match &here.seen {
                    Some(Read::Finished) => {
                        assert!(there.finished, "stream {id}: an end where there was none");
                        assert_eq!(here.read, there.written, "stream {id}: an end after all bytes");
                    }
                    Some(Read::Reset) => {
                        // One stream too many is refused before anybody there hears of it.
                        let is_refused = !self.sides[1 - at].streams.contains_key(id);
                        assert!(there.dropped || is_refused, "stream {id}: a reset that nobody made");
                    }
                    _ if here.dropped => {}
                    _ => {
                        // Still open here, so the peer neither ended nor let go, unless it never said a word.
                        let is_unknown = !self.sides[1 - at].streams.contains_key(id);
                        assert!(is_unknown || !there.dropped, "stream {id}: left waiting after a drop");
                        assert!(is_unknown || !there.finished, "stream {id}: left waiting after an end");
                        assert!(is_unknown || here.read == there.written, "stream {id}: bytes are missing");
                    }
                }
            }
        }
    }
}

/// The bytes of a stream tell where they belong: every stream and side begins at another place of one long pattern.
fn content(id: u32, from: usize, nth: usize, count: usize) -> Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        let byte = |nth: usize| ((nth % PERIOD) * 167 + ((nth % PERIOD) >> 8) * 13) as u8;
        (0..2 * PERIOD).map(byte).collect::<Vec<u8>>().into()
    });
    let start = (nth + id as usize * 5003 + from * 33_331) % PERIOD;
    pattern.slice(start..start + count)
}

/// A prime, so that no power of two hides a shift.
const PERIOD: usize = 65_521;

fn limits() -> Limits {
    Limits {
        open_streams: 6,
        inbound_streams: 6,
        max_window: 1 << 20,
        window_budget: 1 << 20,
        // Virtual time stays below a heartbeat or is heard of by both.
        heartbeat: Duration::from_secs(1000),
        silence: Duration::from_secs(1400),
    }
}
