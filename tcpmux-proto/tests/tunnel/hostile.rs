//! Peers that break the rules, on both roles: that session dies, with a cause that names what was done.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use model::DisconnectCause;
use proptest::prelude::*;
use tcpmux_proto::{
    Settings, StreamKind,
    frame::{ACK, FIN, FrameError, FrameHeader, FrameKind, RST, SYN},
    mux::{End, Event, Limits, MAX_INBOUND_FRAME, Outbox, ProtocolError, Read, Role, Session},
};

use crate::support::{Raw, Tunnel, ended};

pub(crate) const WINDOW: u32 = 256 * 1024;
pub(crate) const ZERO: Duration = Duration::ZERO;

/// A session under attack.
pub(crate) struct Victim {
    pub(crate) session: Session,
    /// The first id that the attacker may use, and one that the victim uses.
    pub(crate) theirs: u32,
    pub(crate) ours: u32,
}

impl Victim {
    pub(crate) fn new(role: Role) -> Self {
        let mut session = Session::new(role, limits(), ZERO);
        let ours = session.open().unwrap();
        session.write_copy(ours, b"hello", ZERO);
        session.transmit(&mut Outbox::default(), usize::MAX, ZERO);
        Self { session, theirs: if role == Role::Client { 2 } else { 1 }, ours }
    }

    pub(crate) fn say(&mut self, header: FrameHeader) {
        self.say_with(header, &[]);
    }

    pub(crate) fn say_with(&mut self, header: FrameHeader, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&header.encode());
        bytes.put_slice(payload);
        self.session.receive(&mut bytes, ZERO);
    }

    /// Opens a stream with some bytes.
    pub(crate) fn open(&mut self, id: u32, payload: &[u8]) {
        self.say_with(FrameHeader::data(id, SYN, payload.len() as u32), payload);
    }

    pub(crate) fn died_of(&self) -> Option<ProtocolError> {
        match self.session.ended() {
            Some(End::Protocol(error)) => Some(error),
            None => None,
            other => panic!("ended otherwise: {other:?}"),
        }
    }
}

fn limits() -> Limits {
    Limits {
        open_streams: 16,
        inbound_streams: 16,
        max_window: 1 << 20,
        window_budget: 4 << 20,
        heartbeat: Duration::from_secs(20),
        silence: Duration::from_secs(28),
    }
}

/// Runs an attack against both roles; each must die of the expected error, and not before the last step.
pub(crate) fn attack(attack: impl Fn(&mut Victim), expected: impl Fn(&Victim) -> ProtocolError) {
    for role in [Role::Client, Role::Server] {
        let mut victim = Victim::new(role);
        attack(&mut victim);
        assert_eq!(victim.died_of(), Some(expected(&victim)), "{role:?}");
        // Nothing it says afterwards matters, and the farewell is one GoAway.
        victim.say(FrameHeader::ping(SYN, 1));
        let mut out = Outbox::default();
        victim.session.transmit(&mut out, usize::MAX, ZERO);
        assert_eq!(out.len(), 12);
        assert_eq!(victim.session.open(), Err(tcpmux_proto::mux::OpenRefused::Ended));
    }
}

#[test]
fn headers_that_make_no_sense_end_the_session() {
    for (bytes, error) in [
        ([1_u8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], FrameError::Version(1)),
        ([0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], FrameError::Kind(9)),
        ([0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0], FrameError::Flags(256)),
        (
            [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            FrameError::Stream { kind: FrameKind::WindowUpdate, stream: 0 },
        ),
    ] {
        attack(
            |victim| victim.session.receive(&mut BytesMut::from(&bytes[..]), ZERO),
            |_| ProtocolError::Frame(error),
        );
    }
}

#[test]
fn an_oversize_frame_ends_the_session_before_any_of_its_bytes() {
    let length = MAX_INBOUND_FRAME + 1;
    for flags in [SYN, 0] {
        attack(
            |victim| victim.say(FrameHeader::data(victim.theirs, flags, length)),
            |victim| ProtocolError::FrameTooLarge { stream: victim.theirs, length },
        );
    }
}

#[test]
fn bytes_beyond_the_window_end_the_session() {
    attack(
        |victim| victim.say(FrameHeader::data(victim.theirs, SYN, WINDOW + 1)),
        |victim| ProtocolError::WindowExceeded { stream: victim.theirs, length: WINDOW + 1, window: WINDOW },
    );
    attack(
        |victim| {
            victim.open(victim.theirs, &vec![0; WINDOW as usize]);
            assert_eq!(victim.died_of(), None, "the whole window may be used");
            victim.say(FrameHeader::data(victim.theirs, 0, 1));
        },
        |victim| ProtocolError::WindowExceeded { stream: victim.theirs, length: 1, window: 0 },
    );
    attack(
        |victim| victim.say(FrameHeader::data(victim.ours, ACK, WINDOW + 1)),
        |victim| ProtocolError::WindowExceeded { stream: victim.ours, length: WINDOW + 1, window: WINDOW },
    );
}

#[test]
fn credit_that_overflows_ends_the_session() {
    attack(
        |victim| victim.say(FrameHeader::window_update(victim.ours, ACK, u32::MAX)),
        |victim| ProtocolError::CreditOverflow(victim.ours),
    );
}

#[test]
fn ids_of_the_wrong_side_or_used_before_end_the_session() {
    attack(|victim| victim.open(victim.ours, b"x"), |victim| ProtocolError::WrongParity(victim.ours));
    attack(
        |victim| {
            victim.open(victim.theirs, b"x");
            victim.open(victim.theirs, b"x");
        },
        |victim| ProtocolError::IdReused(victim.theirs),
    );
    // Also after the stream is long gone.
    attack(
        |victim| {
            victim.open(victim.theirs, b"x");
            victim.say(FrameHeader::reset(victim.theirs));
            victim.session.release(victim.theirs, ZERO);
            victim.open(victim.theirs + 2, b"x");
            assert_eq!(victim.died_of(), None);
            victim.open(victim.theirs, b"x");
        },
        |victim| ProtocolError::IdReused(victim.theirs),
    );
}

#[test]
fn streams_that_never_were_end_the_session() {
    for ahead in [0, 2, 1000] {
        attack(
            |victim| victim.say_with(FrameHeader::data(victim.theirs + ahead, 0, 1), b"x"),
            |victim| ProtocolError::NeverOpened(victim.theirs + ahead),
        );
        attack(
            |victim| victim.say(FrameHeader::window_update(victim.ours + 2 + ahead, 0, 1)),
            |victim| ProtocolError::NeverOpened(victim.ours + 2 + ahead),
        );
    }
    // Opened by us, but not said yet: nobody can know of it.
    attack(
        |victim| {
            let id = victim.session.open().unwrap();
            victim.say(FrameHeader::window_update(id, 0, 1));
        },
        |victim| ProtocolError::NeverOpened(victim.ours + 2),
    );
}

#[test]
fn forged_acknowledgements_end_the_session() {
    attack(
        |victim| {
            victim.open(victim.theirs, b"x");
            victim.say(FrameHeader::window_update(victim.theirs, ACK, 1));
        },
        |victim| ProtocolError::ForgedAck(victim.theirs),
    );
    attack(
        |victim| {
            victim.say(FrameHeader::window_update(victim.ours, ACK, 1));
            victim.say(FrameHeader::window_update(victim.ours, ACK, 1));
        },
        |victim| ProtocolError::ForgedAck(victim.ours),
    );
}

#[test]
fn bytes_after_a_fin_end_the_session() {
    for after in
        [FrameHeader::data(0, 0, 1), FrameHeader::data(0, FIN, 0), FrameHeader::window_update(0, FIN, 0)]
    {
        attack(
            |victim| {
                victim.say(FrameHeader::data(victim.theirs, SYN | FIN, 0));
                victim.say(FrameHeader { stream: victim.theirs, ..after });
            },
            |victim| ProtocolError::AfterFin(victim.theirs),
        );
    }
}

#[test]
fn a_go_away_with_an_error_ends_the_session_and_a_normal_one_drains_it() {
    for role in [Role::Client, Role::Server] {
        let mut victim = Victim::new(role);
        victim.open(victim.theirs, b"x");
        victim.say(FrameHeader::go_away(0));
        assert_eq!(victim.session.ended(), None);
        assert_eq!(victim.session.open(), Err(tcpmux_proto::mux::OpenRefused::Draining));
        assert!(matches!(victim.session.read(victim.theirs, ZERO), Read::Data(_)));
        victim.say_with(FrameHeader::data(victim.theirs, 0, 1), b"y");
        assert!(matches!(victim.session.read(victim.theirs, ZERO), Read::Data(_)), "live streams go on");
        victim.say(FrameHeader::go_away(2));
        assert_eq!(victim.session.ended(), Some(End::PeerGoAway(2)));
    }
}

#[tokio::test]
async fn the_driver_of_an_attacked_session_says_what_was_done_and_others_go_on() {
    let mut neighbour = Tunnel::new().await;
    let (mut raw, session, _control, drivers) = Raw::device(Settings::default()).await;
    raw.send(FrameHeader::data(2, SYN, 0), &[]).await;
    assert_eq!(session.closed().await, DisconnectCause::Protocol);
    let (farewell, _) = raw.frame().await;
    assert_eq!(farewell, FrameHeader::go_away(1));
    drop(raw);
    let how = ended(drivers).await;
    assert_eq!(how.cause, DisconnectCause::Protocol);
    assert_eq!(how.detail.as_deref(), Some("stream 2 was opened with an id of the wrong parity"));
    neighbour.stream(StreamKind::Tcp).await;

    let (mut raw, greeted, drivers) = Raw::cloud(Settings::default()).await;
    raw.send(FrameHeader::data(4, RST, 0), &[]).await;
    raw.send(FrameHeader::data(4, SYN, 0), &[]).await;
    assert_eq!(greeted.handle.closed().await, DisconnectCause::Protocol);
    drop(raw);
    assert_eq!(ended(drivers).await.detail.as_deref(), Some("stream id 4 was used before"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sequence_of_frames_brings_a_session_down_otherwise(
        role in prop_oneof![Just(Role::Client), Just(Role::Server)],
        frames in prop::collection::vec((0..4_u8, 0..16_u16, 0..12_u32, 0..300_u32, any::<bool>()), 0..200),
        chunk in 1..40_usize,
    ) {
        let mut victim = Victim::new(role);
        let mut bytes = Vec::new();
        for (kind, flags, stream, length, truthful) in frames {
            let flags = if kind == 2 { 1 + flags % 2 } else if kind == 3 { 0 } else { flags };
            let stream = if kind >= 2 { 0 } else { stream };
            let length = if kind == 3 { 0 } else { length };
            bytes.extend_from_slice(&[0, kind, 0, flags as u8]);
            bytes.extend_from_slice(&stream.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            if kind == 0 && truthful {
                bytes.resize(bytes.len() + length as usize, 7);
            }
        }
        let (mut opened, mut out) = (Vec::new(), Outbox::default());
        for (turn, chunk) in bytes.chunks(chunk).enumerate() {
            let now = Duration::from_millis(turn as u64);
            victim.session.receive(&mut BytesMut::from(chunk), now);
            while let Some(event) = victim.session.poll_event() {
                if let Event::Opened(id) = event {
                    opened.push(id);
                }
            }
            if let Some(id) = opened.get(turn % (opened.len() + 1)) {
                let _ = victim.session.read(*id, now);
                victim.session.write_copy(*id, b"answer", now);
                if turn % 7 == 0 {
                    victim.session.release(*id, now);
                }
            }
            victim.session.tick(now);
            victim.session.transmit(&mut out, 1 << 16, now);
            out.advance(out.len());
        }
        prop_assert!(matches!(victim.session.ended(), None | Some(End::Protocol(_))));
    }

    #[test]
    fn no_bytes_at_all_bring_a_session_down_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut victim = Victim::new(Role::Server);
        victim.session.receive(&mut BytesMut::from(&bytes[..]), ZERO);
        prop_assert!(matches!(victim.session.ended(), None | Some(End::Protocol(_) | End::PeerGoAway(_))));
    }
}
