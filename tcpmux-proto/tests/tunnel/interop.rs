//! The yamux crate at the other end, as client and as server: it is the oracle for our wire.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::io::{AsyncRead, AsyncWrite};
use tcpmux_proto::mux::{Event, Limits, Outbox, Read, Role, Room, Session};

use crate::support::pattern;

const BOTH: [Role; 2] = [Role::Client, Role::Server];

/// Two directions of bytes; the side of the crate is an I/O object, ours is the queues themselves.
#[derive(Default)]
struct Cable {
    to_crate: VecDeque<u8>,
    to_us: VecDeque<u8>,
    cut: bool,
}

struct CrateEnd(Rc<RefCell<Cable>>);

impl AsyncRead for CrateEnd {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut cable = self.0.borrow_mut();
        if cable.to_crate.is_empty() {
            return if cable.cut { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        let count = out.len().min(cable.to_crate.len());
        for (slot, byte) in out.iter_mut().zip(cable.to_crate.drain(..count)) {
            *slot = byte;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for CrateEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut cable = self.0.borrow_mut();
        let count = bytes.len().min(CABLE.saturating_sub(cable.to_us.len()));
        if count == 0 {
            return Poll::Pending;
        }
        cable.to_us.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What one end of a stream does and has seen. The first byte it sends is its number.
#[derive(Default)]
struct End {
    send: Vec<u8>,
    sent: usize,
    accepted: bool,
    /// Keeps its half open after the last byte.
    stays_open: bool,
    finished: bool,
    got: Vec<u8>,
    at_end: bool,
    was_reset: bool,
    failed_to_write: bool,
}

impl End {
    fn sending(number: usize, size: usize) -> Self {
        let mut send = pattern(number, size);
        send.insert(0, number as u8);
        Self { send, ..Self::default() }
    }
}

/// Our session and the crate's, side by side.
struct Lab {
    cable: Rc<RefCell<Cable>>,
    ours: Session,
    out: Outbox,
    theirs: yamux::Connection<CrateEnd>,
    our_streams: Vec<(u32, End)>,
    their_streams: Vec<(yamux::Stream, End)>,
    /// What an accepted stream sends, by the number it was opened with.
    answers: Vec<usize>,
    crate_failed: bool,
    turns: u64,
}

impl Lab {
    fn new(ours: Role, answers: Vec<usize>) -> Self {
        let cable = Rc::new(RefCell::new(Cable::default()));
        let limits = Limits {
            open_streams: 512,
            inbound_streams: 512,
            max_window: 4 << 20,
            window_budget: 32 << 20,
            heartbeat: Duration::from_secs(20),
            silence: Duration::from_secs(28),
        };
        let mode = if ours == Role::Client { yamux::Mode::Server } else { yamux::Mode::Client };
        Self {
            theirs: yamux::Connection::new(CrateEnd(Rc::clone(&cable)), yamux::Config::default(), mode),
            cable,
            ours: Session::new(ours, limits, Duration::ZERO),
            out: Outbox::default(),
            our_streams: Vec::new(),
            their_streams: Vec::new(),
            answers,
            crate_failed: false,
            turns: 0,
        }
    }

    fn we_open(&mut self, end: End) -> usize {
        let id = self.ours.open().unwrap();
        self.our_streams.push((id, end));
        self.our_streams.len() - 1
    }

    fn they_open(&mut self, end: End) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(stream) = self.theirs.poll_new_outbound(&mut cx) else { panic!("no stream") };
        self.their_streams.push((stream.unwrap(), end));
        self.their_streams.len() - 1
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let mut turns = 0;
        while !done(self) {
            self.turn();
            turns += 1;
            assert!(turns < 200_000, "never: {what}");
        }
    }

    fn turn(&mut self) {
        self.turns += 1;
        let now = Duration::from_micros(self.turns * 20);
        self.turn_ours(now);
        if !self.crate_failed {
            self.turn_theirs();
        }
    }

    fn turn_ours(&mut self, now: Duration) {
        let mut input: BytesMut = self.cable.borrow_mut().to_us.drain(..).collect::<Vec<u8>>()[..].into();
        self.ours.receive(&mut input, now);
        while let Some(event) = self.ours.poll_event() {
            if let Event::Opened(id) = event {
                self.our_streams.push((id, End { accepted: true, ..End::default() }));
            }
        }
        for (id, end) in &mut self.our_streams {
            match self.ours.read(*id, now) {
                Read::Data(bytes) => end.got.extend_from_slice(&bytes),
                Read::Finished => end.at_end = true,
                Read::Reset => end.was_reset = true,
                Read::Wait | Read::Ended => {}
            }
            end.answer(&self.answers);
            match self.ours.room(*id) {
                Room::Bytes(room) if end.sent < end.send.len() => {
                    let count = room.min(end.send.len() - end.sent);
                    self.ours.write_copy(*id, &end.send[end.sent..end.sent + count], now);
                    end.sent += count;
                }
                Room::Bytes(_) if end.may_finish() => {
                    self.ours.finish(*id, now);
                    end.finished = true;
                }
                Room::Reset => end.failed_to_write = true,
                _ => {}
            }
        }
        self.ours.tick(now);
        let mut cable = self.cable.borrow_mut();
        if cable.to_crate.len() < CABLE {
            self.ours.transmit(&mut self.out, CABLE, now);
            while !self.out.is_empty() {
                let mut slices = [io::IoSlice::new(&[]); 4];
                let count = self.out.slices(&mut slices);
                let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                self.out.advance(bytes.len());
                cable.to_crate.extend(bytes);
            }
        }
    }

    fn turn_theirs(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match self.theirs.poll_next_inbound(&mut cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    self.their_streams.push((stream, End { accepted: true, ..End::default() }));
                }
                Poll::Ready(_) => {
                    self.crate_failed = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        for (stream, end) in &mut self.their_streams {
            let mut buffer = vec![0; 32 * 1024];
            match Pin::new(&mut *stream).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(Ok(0)) => end.at_end = true,
                Poll::Ready(Ok(count)) => end.got.extend_from_slice(&buffer[..count]),
                Poll::Ready(Err(_)) => end.was_reset = true,
                Poll::Pending => {}
            }
            end.answer(&self.answers);
            if end.sent < end.send.len() {
                match Pin::new(&mut *stream).poll_write(&mut cx, &end.send[end.sent..]) {
                    Poll::Ready(Ok(count)) => end.sent += count,
                    Poll::Ready(Err(_)) => end.failed_to_write = true,
                    Poll::Pending => {}
                }
            } else if end.may_finish() {
                end.finished = Pin::new(&mut *stream).poll_close(&mut cx).is_ready();
            }
        }
    }

    fn healthy(&self) {
        assert_eq!(self.ours.ended(), None);
        assert!(!self.crate_failed);
    }
}

impl End {
    fn may_finish(&self) -> bool {
        let begun = !self.accepted || !self.got.is_empty();
        begun && !self.finished && !self.stays_open
    }

    /// An accepted stream begins to answer once it knows its number.
    fn answer(&mut self, answers: &[usize]) {
        let known = self.got.first().filter(|_| self.accepted && self.send.is_empty());
        if let Some((number, size)) =
            known.and_then(|number| Some((*number, answers.get(usize::from(*number))?)))
        {
            self.send = pattern(usize::from(number) + 500, *size);
        }
    }
}

const CABLE: usize = 64 * 1024;

#[test]
fn many_streams_with_bulk_both_ways_and_half_close() {
    for role in BOTH {
        let sizes: Vec<usize> = (0..25).map(|n| [0, 1, 1000, 70_000, 400_000][n % 5] + n).collect();
        let answers: Vec<usize> = sizes.iter().rev().copied().collect();
        let mut lab = Lab::new(role, answers.clone());
        for (number, size) in sizes.iter().enumerate() {
            // An opener finishes at once after its last byte and then still reads.
            if number % 2 == 0 {
                lab.we_open(End::sending(number, *size));
            } else {
                lab.they_open(End::sending(number, *size));
            }
        }
        let all_done = |lab: &Lab| {
            let (ours, theirs) =
                (lab.our_streams.iter().map(|s| &s.1), lab.their_streams.iter().map(|s| &s.1));
            lab.our_streams.len() == 25
                && lab.their_streams.len() == 25
                && ours.chain(theirs).all(|end| end.at_end && end.finished)
        };
        lab.until("all streams end both ways", all_done);
        lab.healthy();
        for end in lab.our_streams.iter().map(|s| &s.1).chain(lab.their_streams.iter().map(|s| &s.1)) {
            let expected = if end.accepted {
                let number = usize::from(end.got[0]);
                End::sending(number, sizes[number]).send
            } else {
                let number = usize::from(end.send[0]);
                pattern(number + 500, answers[number])
            };
            assert!(end.got == expected, "{role:?}: all bytes in order");
        }
        for (id, _) in std::mem::take(&mut lab.our_streams) {
            lab.ours.release(id, Duration::from_secs(1));
        }
        assert_eq!(lab.ours.stream_count(), 0, "both FINs: nothing left, and no reset sent");
        assert!(!lab.ours.has_output());
    }
}

#[test]
fn a_stream_that_the_crate_drops_is_a_reset_for_us() {
    for role in BOTH {
        for we_open in [true, false] {
            let mut lab = Lab::new(role, vec![4 << 20]);
            // With a FIN of its own or of ours before, the crate would send no reset: that is why it is not our engine.
            let end = End { stays_open: true, ..End::sending(0, 10) };
            if we_open {
                lab.we_open(end);
            } else {
                lab.they_open(end);
            }
            lab.until("bytes arrive at both ends", |lab| {
                let ours = lab.our_streams.iter().any(|s| !s.1.got.is_empty());
                ours && lab.their_streams.iter().any(|s| !s.1.got.is_empty())
            });
            drop(lab.their_streams.pop());
            lab.until("the reset arrives", |lab| {
                let ours = &lab.our_streams[0].1;
                ours.was_reset && (we_open || ours.failed_to_write)
            });
            assert!(!lab.our_streams[0].1.at_end);
            lab.healthy();
        }
    }
}

#[test]
fn a_stream_that_we_drop_is_gone_for_the_crate_and_its_bytes_under_way_do_no_harm() {
    for role in BOTH {
        let mut lab = Lab::new(role, vec![4 << 20]);
        lab.we_open(End { stays_open: true, ..End::sending(0, 10) });
        lab.until("the crate sends", |lab| lab.our_streams[0].1.got.len() > 300_000);
        let (id, _) = lab.our_streams.pop().unwrap();
        lab.ours.release(id, Duration::from_micros(lab.turns * 20));
        lab.until("its writer fails", |lab| lab.their_streams[0].1.failed_to_write);
        lab.healthy();
        // The session goes on.
        lab.answers = vec![10];
        lab.we_open(End::sending(0, 100));
        lab.until("another stream works", |lab| lab.our_streams[0].1.at_end);
        lab.healthy();
    }
}

#[test]
fn a_stream_that_the_crate_never_wrote_to_is_reset_without_harm() {
    for role in BOTH {
        let mut lab = Lab::new(role, vec![10, 20]);
        lab.they_open(End { stays_open: true, ..End::default() });
        drop(lab.their_streams.pop());
        for _ in 0..10 {
            lab.turn();
        }
        // And streams announced in another order than numbered.
        lab.they_open(End { stays_open: true, ..End::default() });
        lab.they_open(End::sending(1, 5));
        lab.until("the second answers", |lab| lab.their_streams[1].1.at_end);
        lab.their_streams[0].1 = End::sending(0, 5);
        lab.until("the first answers", |lab| lab.their_streams[0].1.at_end);
        lab.healthy();
    }
}

#[test]
fn the_crate_takes_our_farewell_and_our_session_sees_its_loss() {
    let mut lab = Lab::new(Role::Client, vec![10]);
    lab.we_open(End::sending(0, 5));
    lab.until("it works", |lab| lab.our_streams[0].1.at_end);
    lab.ours.drain();
    lab.until("the crate takes a GoAway for the end", |lab| lab.crate_failed);
    lab.cable.borrow_mut().cut = true;
    assert_eq!(lab.ours.ended(), None);
}
