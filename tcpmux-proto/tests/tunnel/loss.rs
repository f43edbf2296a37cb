//! The peer is lost after every single byte that was under way, in either direction: no stream ends well that was not
//! finished, no byte is made up, and nobody is left waiting.

use std::{collections::BTreeMap, io::IoSlice, time::Duration};

use bytes::BytesMut;
use tcpmux_proto::mux::{End, Event, Limits, Outbox, Read, Role, Room, Session};

use crate::support::pattern;

/// What one side of a stream does: so many bytes, then FIN, nothing, or letting go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Finish,
    Stay,
    Drop,
}

/// What the opener and the other side do on one stream.
type Story = [(usize, Then); 2];

struct Side {
    session: Session,
    out: Outbox,
    /// By stream: its story's number.
    streams: BTreeMap<u32, usize>,
    written: Vec<bool>,
    got: Vec<Vec<u8>>,
    seen: Vec<Option<Read>>,
}

impl Side {
    fn new(role: Role, stories: usize) -> Self {
        Self {
            session: Session::new(role, limits(), Duration::ZERO),
            out: Outbox::default(),
            streams: BTreeMap::new(),
            written: vec![false; stories],
            got: vec![vec![]; stories],
            seen: vec![None; stories],
        }
    }

    fn play(&mut self, id: u32, story: usize, (bytes, then): (usize, Then), now: Duration) {
        let Room::Bytes(room) = self.session.room(id) else { return };
        assert!(bytes < room, "small enough to be written at once");
        self.session.write(id, pattern(story, bytes).into(), now);
        match then {
            Then::Finish => self.session.finish(id, now),
            Then::Drop => {
                self.session.release(id, now);
                self.streams.remove(&id);
            }
            Then::Stay => {}
        }
        self.written[story] = true;
    }

    fn read_all(&mut self, now: Duration) {
        for (id, story) in self.streams.iter().filter(|(_, story)| **story != UNKNOWN) {
            loop {
                match self.session.read(*id, now) {
                    Read::Data(bytes) => {
                        assert_eq!(self.seen[*story], None, "bytes after an end");
                        self.got[*story].extend_from_slice(&bytes);
                    }
                    Read::Wait => break,
                    end => {
                        self.seen[*story] = Some(end);
                        break;
                    }
                }
            }
        }
    }
}

/// Plays the stories until nothing moves, or until `cut` bytes were delivered in all; then both ends lose each other.
/// Says how many bytes were delivered.
fn play(stories: &[Story], cut: usize, chunk: usize) -> usize {
    let mut sides = [Side::new(Role::Client, stories.len()), Side::new(Role::Server, stories.len())];
    let now = Duration::from_millis(1);
    for (story, [opening, _]) in stories.iter().enumerate() {
        let side = &mut sides[story % 2];
        let id = side.session.open().unwrap();
        side.streams.insert(id, story);
        // The first byte says which story it is.
        side.session.write_copy(id, &[story as u8], now);
        if opening.1 == Then::Drop {
            // Otherwise the peer would never hear of it.
            side.session.transmit(&mut side.out, usize::MAX, now);
        }
        side.play(id, story, *opening, now);
    }
    let (mut delivered, mut moved) = (0, true);
    while moved && delivered < cut {
        moved = false;
        for at in 0..2 {
            let side = &mut sides[at];
            side.session.transmit(&mut side.out, usize::MAX, now);
            let mut slices = [IoSlice::new(&[]); 8];
            let count = side.out.slices(&mut slices);
            let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            bytes.truncate(chunk.min(cut - delivered));
            side.out.advance(bytes.len());
            delivered += bytes.len();
            moved |= !bytes.is_empty();
            take(&mut sides[1 - at], &bytes, stories, now);
        }
    }
    let lost = delivered == cut;
    for side in &mut sides {
        if lost {
            side.session.end(End::Lost);
        }
        side.read_all(now);
    }
    check(&sides, stories, lost);
    delivered
}

fn take(side: &mut Side, bytes: &[u8], stories: &[Story], now: Duration) {
    side.session.receive(&mut BytesMut::from(bytes), now);
    while let Some(event) = side.session.poll_event() {
        let Event::Opened(id) = event else { continue };
        // It is known by its first byte; a frame is announced whole, so that one may still be missing.
        side.streams.insert(id, UNKNOWN);
    }
    let unknown: Vec<u32> =
        side.streams.iter().filter(|(_, story)| **story == UNKNOWN).map(|(id, _)| *id).collect();
    for id in unknown {
        match side.session.read(id, now) {
            Read::Data(bytes) => {
                let story = usize::from(bytes[0]);
                side.streams.insert(id, story);
                side.got[story].extend_from_slice(&bytes[1..]);
                side.play(id, story, stories[story][1], now);
            }
            Read::Wait => {}
            _ => drop(side.streams.remove(&id)),
        }
    }
    side.read_all(now);
}

fn check(sides: &[Side; 2], stories: &[Story], lost: bool) {
    for (story, spec) in stories.iter().enumerate() {
        for (at, reader) in sides.iter().enumerate() {
            let from = usize::from(at == story % 2);
            let (bytes, then) = spec[from];
            let sent = pattern(story, bytes);
            assert!(sent.starts_with(&reader.got[story]), "story {story}: only what was written, in order");
            match &reader.seen[story] {
                Some(Read::Finished) => {
                    assert_eq!(then, Then::Finish, "story {story}: an end where there was none");
                    assert_eq!(reader.got[story].len(), bytes, "story {story}: an end after all bytes");
                }
                Some(Read::Reset) => {
                    // Whoever let go says so, and bytes that come for nobody are answered so.
                    assert!(spec.iter().any(|(_, then)| *then == Then::Drop), "story {story}: nobody let go");
                }
                Some(Read::Ended) => assert!(lost, "story {story}: the peer was not lost"),
                Some(other) => panic!("story {story} ended as {other:?}"),
                None => assert!(
                    !lost || !reader.streams.values().any(|known| *known == story),
                    "story {story}: somebody waits for a peer that is gone"
                ),
            }
        }
    }
}

fn limits() -> Limits {
    Limits {
        open_streams: 16,
        inbound_streams: 16,
        max_window: 1 << 20,
        window_budget: 1 << 20,
        heartbeat: Duration::from_secs(20),
        silence: Duration::from_secs(28),
    }
}

const UNKNOWN: usize = usize::MAX;

#[test]
fn a_peer_lost_after_any_byte_is_a_loss_and_never_an_end() {
    use Then::{Drop, Finish, Stay};
    let stories: [Story; 6] = [
        [(40, Finish), (30, Finish)],
        [(0, Finish), (50, Finish)],
        [(20, Stay), (20, Finish)],
        [(30, Finish), (10, Drop)],
        [(10, Drop), (30, Stay)],
        [(25, Stay), (25, Stay)],
    ];
    for chunk in [16, 1000] {
        let all = play(&stories, usize::MAX, chunk);
        assert!(all > 400, "the stories say something: {all} bytes");
        for cut in 0..all {
            assert_eq!(play(&stories, cut, chunk), cut);
        }
    }
}

#[test]
fn a_peer_lost_in_the_middle_of_bulk_is_no_end_either() {
    use Then::Finish;
    let stories: [Story; 2] = [[(120_000, Finish), (90_000, Finish)], [(70_000, Finish), (110_000, Finish)]];
    let all = play(&stories, usize::MAX, 16_384);
    assert!(all > 390_000, "{all}");
    for cut in (0..all).step_by(19_937).chain(all - 14..all) {
        assert_eq!(play(&stories, cut, 16_384), cut);
    }
}
