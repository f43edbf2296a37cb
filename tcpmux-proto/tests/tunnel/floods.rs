//! Peers that ask for more than anyone needs: each is within the rules, all together are not.

use model::DisconnectCause;
use tcpmux_proto::{
    Settings,
    frame::{FrameHeader, SYN},
    mux::{Outbox, ProtocolError, Read, Role, Room},
};
use tokio::io::AsyncWriteExt;

use crate::{
    hostile::{Victim, WINDOW, ZERO, attack},
    support::Raw,
};

#[test]
fn a_ping_flood_ends_the_session_whether_answers_are_read_or_not() {
    for reads in [true, false] {
        attack(
            |victim| {
                for opaque in 0..1000 {
                    victim.say(FrameHeader::ping(SYN, opaque));
                    if reads && victim.died_of().is_none() {
                        victim.session.transmit(&mut Outbox::default(), usize::MAX, ZERO);
                    }
                }
            },
            |_| ProtocolError::PingFlood,
        );
    }
}

#[test]
fn a_syn_flood_is_refused_stream_by_stream_until_it_ends_the_session() {
    attack(
        |victim| {
            for nth in 0..100_u32 {
                victim.open(victim.theirs + 2 * nth, b"x");
            }
            assert_eq!(victim.died_of(), None, "the first over the limit are refused alone");
            assert_eq!(
                victim.session.stream_count(),
                16 + usize::from(victim.ours != 1) - usize::from(victim.theirs == 1)
            );
            let mut out = Outbox::default();
            victim.session.transmit(&mut out, usize::MAX, ZERO);
            assert_eq!(out.len(), 84 * 12, "each refused one is reset once");
            for nth in 100..100_000_u32 {
                victim.open(victim.theirs + 2 * nth, b"x");
                if victim.died_of().is_some() {
                    break;
                }
                victim.session.transmit(&mut Outbox::default(), usize::MAX, ZERO);
            }
        },
        |_| ProtocolError::StrayFlood,
    );
    attack(
        |victim| {
            for nth in 0..100_000_u32 {
                victim.open(victim.theirs + 2 * nth, b"x");
            }
        },
        |_| ProtocolError::UnreadReplies,
    );
}

#[test]
fn a_storm_of_resets_for_closed_streams_ends_the_session() {
    attack(
        |victim| {
            victim.open(victim.theirs, b"x");
            for _ in 0..100_000 {
                victim.say(FrameHeader::reset(victim.theirs));
                victim.session.release(victim.theirs, ZERO);
            }
        },
        |_| ProtocolError::StrayFlood,
    );
}

#[test]
fn bytes_for_a_stream_we_cut_are_dropped_up_to_the_credit_it_had_and_answered_once() {
    attack(
        |victim| {
            victim.open(victim.theirs, b"x");
            victim.session.release(victim.theirs, ZERO);
            let mut out = Outbox::default();
            victim.session.transmit(&mut out, usize::MAX, ZERO);
            assert_eq!(out.len(), 12, "one reset");
            for _ in 0..3 {
                let length = WINDOW / 4;
                victim.say_with(FrameHeader::data(victim.theirs, 0, length), &vec![0; length as usize]);
            }
            assert_eq!(victim.died_of(), None, "they were on their way");
            assert!(!victim.session.has_output(), "and are not answered again");
            victim.say(FrameHeader::data(victim.theirs, 0, WINDOW / 4));
        },
        |_| ProtocolError::StrayBytes,
    );
}

#[test]
fn single_bytes_cost_little_more_than_themselves() {
    let mut victim = Victim::new(Role::Server);
    victim.open(1, b"");
    for byte in 0..100_000_u32 {
        victim.say_with(FrameHeader::data(1, 0, 1), &[byte as u8]);
    }
    assert_eq!(victim.died_of(), None);
    let mut pieces = 0;
    while let Read::Data(_) = victim.session.read(1, ZERO) {
        pieces += 1;
    }
    assert!(pieces <= 8, "gathered into few pieces, not {pieces}");
}

#[test]
fn credit_that_never_comes_stops_its_stream_alone_and_costs_one_queue() {
    for role in [Role::Client, Role::Server] {
        let mut victim = Victim::new(role);
        let other = victim.session.open().unwrap();
        let mut sent = 0;
        // Nothing is ever granted beyond the first window, however often it is said.
        for turn in 0..1000_u32 {
            if let Room::Bytes(room) = victim.session.room(victim.ours) {
                victim.session.write(victim.ours, vec![0; room].into(), ZERO);
            }
            if turn > 0 {
                victim.say(FrameHeader::window_update(victim.ours, 0, 0));
            }
            let mut out = Outbox::default();
            victim.session.transmit(&mut out, usize::MAX, ZERO);
            sent += out.len();
        }
        assert_eq!(victim.died_of(), None, "{role:?}");
        assert!(sent < WINDOW as usize + 1000, "no more than the window left: {sent}");
        assert!(victim.session.held_bytes() <= 128 << 10, "{}", victim.session.held_bytes());
        victim.session.write_copy(other, b"small", ZERO);
        let mut out = Outbox::default();
        victim.session.transmit(&mut out, usize::MAX, ZERO);
        assert_eq!(out.len(), 12 + 5, "the other stream goes on");
    }
}

#[test]
fn what_a_peer_can_make_us_hold_is_what_its_windows_hold() {
    for role in [Role::Client, Role::Server] {
        let mut victim = Victim::new(role);
        let room = if role == Role::Client { 16 } else { 15 };
        for nth in 0..room {
            victim.open(victim.theirs + 2 * nth, &vec![7; WINDOW as usize]);
        }
        assert_eq!(victim.died_of(), None, "{role:?}: every window may be used");
        let most = room as usize * WINDOW as usize;
        assert_eq!(victim.session.held_bytes(), most);
        // Empty frames and repeated credit leave nothing behind.
        for _ in 0..10_000 {
            victim.say(FrameHeader::data(victim.theirs, 0, 0));
            victim.say(FrameHeader::window_update(victim.theirs, 0, 1));
        }
        assert_eq!((victim.died_of(), victim.session.held_bytes()), (None, most));
        assert!(victim.session.deadline().is_some());
        for nth in 0..room {
            while let Read::Data(_) = victim.session.read(victim.theirs + 2 * nth, ZERO) {}
            victim.session.release(victim.theirs + 2 * nth, ZERO);
        }
        assert_eq!(victim.session.held_bytes(), 0);
    }
}

#[tokio::test]
async fn a_device_that_floods_without_reading_is_cut_while_its_tunnel_still_reads() {
    let (mut raw, session, _control, _drivers) = Raw::device(Settings::default()).await;
    let flood = async {
        for id in 1..u32::MAX / 2 {
            if raw.io.write_all(&FrameHeader::data(2 * id + 1, SYN, 0).encode()).await.is_err() {
                break;
            }
        }
    };
    let (cause, ()) = tokio::join!(session.closed(), flood);
    assert_eq!(cause, DisconnectCause::Protocol);
}
