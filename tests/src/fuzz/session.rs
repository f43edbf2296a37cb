//! A session of either role under whatever bytes a peer sends, while its own side reads, writes and lets go.

use std::{collections::BTreeSet, time::Duration};

use bytes::BytesMut;
use tcpmux_proto::mux::{End, Event, Limits, Outbox, Read, Role, Room, Session};

/// The first byte is the role, the second and third say how the rest arrives; the rest is what the peer says. However
/// it is cut, the session lives on or ends of a named cause, and what it holds stays within its formula.
pub(super) fn session(bytes: &[u8]) {
    let [role, cut, habits, said @ ..] = bytes else { return };
    let role = if role & 1 == 0 { Role::Client } else { Role::Server };
    let whole = run(role, *habits, said, said.len().max(1));
    // How the bytes were cut on their way must not matter to how the session ends.
    let parts = run(role, *habits, said, 1 + usize::from(*cut));
    if habits & HANDS_OFF != 0 {
        assert_eq!(whole, parts, "the same bytes in other pieces");
    }
}

fn run(role: Role, habits: u8, said: &[u8], piece: usize) -> Option<End> {
    let mut session = Session::new(role, limits(), Duration::ZERO);
    let own = session.open().expect("nothing is open yet");
    session.write_copy(own, b"hello", Duration::ZERO);
    let (mut out, mut held, mut opened) = (Outbox::default(), BTreeSet::from([own]), 0_usize);
    session.transmit(&mut out, usize::MAX, Duration::ZERO);
    out.advance(out.len());
    for (turn, part) in said.chunks(piece).enumerate() {
        let now = if habits & HANDS_OFF == 0 { Duration::from_millis(turn as u64) } else { Duration::ZERO };
        session.receive(&mut BytesMut::from(part), now);
        while let Some(event) = session.poll_event() {
            if let Event::Opened(id) = event {
                assert!(held.insert(id), "stream {id} was opened twice");
                opened += 1;
            }
        }
        if habits & HANDS_OFF == 0 {
            act(&mut session, &mut held, habits, turn, now);
            session.tick(now);
            session.transmit(&mut out, 1 << 16, now);
            out.advance(out.len());
        }
        bounds(&session, opened);
    }
    match session.ended() {
        None | Some(End::Protocol(_) | End::PeerGoAway(_)) => {}
        other => panic!("no bytes of a peer end a session as {other:?}"),
    }
    if session.ended().is_some() {
        assert!(session.deadline().is_none() && session.open().is_err());
    }
    for id in held {
        session.release(id, Duration::ZERO);
    }
    session.ended()
}

/// What this side does meanwhile.
fn act(session: &mut Session, held: &mut BTreeSet<u32>, habits: u8, turn: usize, now: Duration) {
    let Some(id) = held.iter().nth(turn % held.len().max(1)).copied() else { return };
    if habits & READS != 0
        && let Read::Data(piece) = session.read(id, now)
    {
        assert!(!piece.is_empty());
    }
    if habits & WRITES != 0
        && let Room::Bytes(room) = session.room(id)
    {
        session.write_copy(id, &b"answer"[..room.min(6)], now);
    }
    match (habits & LETS_GO, turn % 7) {
        (LETS_GO, 3) => session.finish(id, now),
        (LETS_GO, 5) => {
            session.release(id, now);
            held.remove(&id);
        }
        _ => {}
    }
}

/// Windows and the queue bound what streams hold; the limits bound how many there are.
fn bounds(session: &Session, opened: usize) {
    let limits = limits();
    assert!(session.stream_count() <= limits.inbound_streams + limits.open_streams);
    assert!(session.stream_count() <= opened + 1);
    let windows = session.stream_count().saturating_add(1) * WINDOW + limits.window_budget;
    assert!(session.held_bytes() <= windows + (128 << 10) * (session.stream_count() + 1));
}

fn limits() -> Limits {
    Limits {
        open_streams: 8,
        inbound_streams: 8,
        max_window: 1 << 20,
        window_budget: 2 << 20,
        heartbeat: Duration::from_secs(20),
        silence: Duration::from_secs(28),
    }
}

/// What every stream's window begins with.
const WINDOW: usize = 256 << 10;
const READS: u8 = 1;
const WRITES: u8 = 2;
const LETS_GO: u8 = 4;
/// Nobody acts and no time passes: then only the bytes count.
const HANDS_OFF: u8 = 8;
