//! What the peer sends, frame by frame.

use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::{
    End, Event, ProtocolError, Session,
    error::MAX_INBOUND_FRAME,
    session::{GO_AWAY_NORMAL, MAX_REPLIES},
    stream::{Receiving, Stream},
    window::INITIAL,
};
use crate::frame::{ACK, FIN, FrameHeader, FrameKind, HEADER_LEN, RST, SYN};

/// Where in a frame the input stands.
#[derive(Debug, Default)]
pub(super) struct Input {
    header: [u8; HEADER_LEN],
    /// How much of the header is there.
    have: usize,
    body: Option<Body>,
}

/// A payload that is arriving.
#[derive(Debug, Clone, Copy)]
struct Body {
    stream: u32,
    left: usize,
    fin: bool,
}

impl Session {
    /// Takes what the socket gave, all of it. A protocol error ends the session; look at [`Session::ended`].
    pub fn receive(&mut self, input: &mut BytesMut, now: Duration) {
        self.pulse.hear(now);
        while !input.is_empty() && self.end.is_none() {
            if let Err(error) = self.advance(input, now) {
                self.end(End::Protocol(error));
            }
        }
        input.clear();
    }

    fn advance(&mut self, input: &mut BytesMut, now: Duration) -> Result<(), ProtocolError> {
        if let Some(body) = self.input.body {
            self.on_payload(body, input);
            return Ok(());
        }
        let Input { header, have, .. } = &mut self.input;
        let count = input.len().min(HEADER_LEN - *have);
        input.copy_to_slice(&mut header[*have..*have + count]);
        *have += count;
        if *have < HEADER_LEN {
            return Ok(());
        }
        *have = 0;
        let header = FrameHeader::decode(*header)?;
        match header.kind {
            FrameKind::Data => self.on_data(header, now),
            FrameKind::WindowUpdate => self.on_window_update(header, now),
            FrameKind::Ping => self.on_ping(header, now),
            FrameKind::GoAway => {
                self.on_go_away(header.length);
                Ok(())
            }
        }
    }

    fn on_data(&mut self, header: FrameHeader, now: Duration) -> Result<(), ProtocolError> {
        let FrameHeader { stream: id, length, .. } = header;
        if length > MAX_INBOUND_FRAME {
            return Err(ProtocolError::FrameTooLarge { stream: id, length });
        }
        if length > 0 {
            let fin = header.has(FIN);
            self.input.body = Some(Body { stream: id, left: length as usize, fin });
        }
        let Some(stream) = self.stream_of(header, now)? else {
            return self.flood.stray_bytes(length);
        };
        if length > 0 {
            if stream.receiving == Receiving::Finished {
                return Err(ProtocolError::AfterFin(id));
            }
            let window = stream.window.open();
            if !stream.window.receive(length) {
                return Err(ProtocolError::WindowExceeded { stream: id, length, window });
            }
        }
        if header.has(FIN) {
            if stream.receiving == Receiving::Finished {
                return Err(ProtocolError::AfterFin(id));
            }
            if length == 0 {
                self.on_fin(id);
            }
        }
        Ok(())
    }

    fn on_window_update(&mut self, header: FrameHeader, now: Duration) -> Result<(), ProtocolError> {
        let FrameHeader { stream: id, length: credit, .. } = header;
        let Some(stream) = self.stream_of(header, now)? else { return Ok(()) };
        stream.credit = stream.credit.checked_add(credit).ok_or(ProtocolError::CreditOverflow(id))?;
        if header.has(FIN) {
            if stream.receiving == Receiving::Finished {
                return Err(ProtocolError::AfterFin(id));
            }
            self.on_fin(id);
        }
        self.schedule(id, now);
        Ok(())
    }

    fn on_ping(&mut self, header: FrameHeader, now: Duration) -> Result<(), ProtocolError> {
        if header.has(ACK) {
            self.pulse.answered(header.length, now);
            return Ok(());
        }
        self.flood.ping(now)?;
        self.reply(FrameHeader::ping(ACK, header.length))
    }

    fn on_go_away(&mut self, code: u32) {
        if code != GO_AWAY_NORMAL {
            self.end(End::PeerGoAway(code));
        } else if !self.peer_draining {
            self.peer_draining = true;
            self.events.push_back(Event::PeerDraining);
        }
    }

    fn on_payload(&mut self, body: Body, input: &mut BytesMut) {
        let count = body.left.min(input.len());
        let left = body.left - count;
        self.input.body = (left > 0).then_some(Body { left, ..body });
        match self.streams.get_mut(&body.stream) {
            Some(stream) if stream.held && !stream.reset => {
                stream.incoming.push_from(input, count);
                stream.tell_reader(body.stream, &mut self.events);
            }
            _ => input.advance(count),
        }
        if left == 0 && body.fin {
            self.on_fin(body.stream);
        }
    }

    fn on_fin(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.receiving = Receiving::Finished;
        stream.tell_reader(id, &mut self.events);
    }

    /// The live stream that a frame is about, after its SYN, ACK and RST are dealt with; `None` where there is none
    /// (any more) and that is in order.
    fn stream_of(
        &mut self,
        header: FrameHeader,
        now: Duration,
    ) -> Result<Option<&mut Stream>, ProtocolError> {
        let id = header.stream;
        if header.has(SYN) && !self.on_syn(header, now)? {
            return Ok(None);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            self.was_open(header)?;
            self.flood.stray(now)?;
            return Ok(None);
        };
        if stream.is_unannounced() {
            return Err(ProtocolError::NeverOpened(id));
        }
        if header.has(ACK) {
            if !stream.ours || stream.acknowledged {
                return Err(ProtocolError::ForgedAck(id));
            }
            stream.acknowledged = true;
        }
        if header.has(RST) {
            self.on_reset(id);
            return Ok(None);
        }
        // Looked up again: the borrow of above cannot be returned on one path and dropped on another.
        Ok(self.streams.get_mut(&id).filter(|stream| !stream.reset).map(|stream| &mut **stream))
    }

    /// Whether the stream was opened; it is refused alone where there is no room for it.
    fn on_syn(&mut self, header: FrameHeader, now: Duration) -> Result<bool, ProtocolError> {
        let id = header.stream;
        if self.own_ids.owns(id) {
            return Err(ProtocolError::WrongParity(id));
        }
        if !self.peer_ids.take(id) {
            return Err(ProtocolError::IdReused(id));
        }
        if header.has(RST) {
            self.flood.stray(now)?;
            return Ok(false);
        }
        if self.draining || self.theirs >= self.limits.inbound_streams {
            self.flood.stray(now)?;
            self.flood.refused(INITIAL);
            self.reply(FrameHeader::reset(id))?;
            return Ok(false);
        }
        self.streams.insert(id, Box::new(Stream::theirs()));
        self.theirs += 1;
        self.events.push_back(Event::Opened(id));
        Ok(true)
    }

    fn on_reset(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.reset = true;
        self.queued -= stream.outgoing.len();
        stream.outgoing.clear();
        stream.tell_all(id, &mut self.events);
        if !stream.held {
            self.remove(id);
        }
    }

    fn was_open(&mut self, header: FrameHeader) -> Result<(), ProtocolError> {
        let id = header.stream;
        let known = if self.own_ids.owns(id) {
            self.own_ids.was_given(id)
        } else {
            // The yamux crate resets a stream that it dropped before it said a word about it.
            self.peer_ids.was_taken(id) || header.has(RST) && self.peer_ids.take(id)
        };
        if known { Ok(()) } else { Err(ProtocolError::NeverOpened(id)) }
    }

    fn reply(&mut self, header: FrameHeader) -> Result<(), ProtocolError> {
        if self.replies.len() >= MAX_REPLIES {
            return Err(ProtocolError::UnreadReplies);
        }
        self.replies.push_back(header);
        Ok(())
    }
}
