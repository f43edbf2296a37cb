//! What we send: answers and credit first, then the streams in turn.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Event, Outbox, Session,
    stream::{Receiving, Sending, Stream},
};
use crate::frame::{FIN, FrameHeader, HEADER_LEN};

impl Session {
    /// Whether [`Self::transmit`] has something to move.
    pub fn has_output(&self) -> bool {
        !(self.urgent.is_empty()
            && self.replies.is_empty()
            && self.updates.is_empty()
            && self.scheduler.is_empty())
    }

    /// Moves frames to the outbox until it holds `limit` bytes or nothing more may leave.
    pub fn transmit(&mut self, out: &mut Outbox, limit: usize, now: Duration) {
        for header in self.urgent.drain(..).chain(self.replies.drain(..)) {
            out.push(header, Bytes::new());
        }
        self.transmit_updates(out);
        while out.len() < limit {
            let Some(id) = self.scheduler.pop() else { break };
            self.transmit_data(id, out, now);
        }
    }

    fn transmit_updates(&mut self, out: &mut Outbox) {
        while let Some(id) = self.updates.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.update_waits = false;
            if stream.reset || stream.receiving == Receiving::Finished || !stream.held {
                continue;
            }
            let credit = stream.window.grant(stream.incoming.len());
            if credit == 0 {
                continue;
            }
            let flags = std::mem::take(&mut stream.announce);
            stream.recharge(&mut self.charged);
            out.push(FrameHeader::window_update(id, flags, credit), Bytes::new());
        }
    }

    fn transmit_data(&mut self, id: u32, out: &mut Outbox, now: Duration) {
        let most_queued = self.most_queued();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.scheduled = false;
        if !stream.can_send() {
            return;
        }
        let payload = stream.next_payload();
        let mut flags = std::mem::take(&mut stream.announce);
        if stream.sending == Sending::Finishing && stream.outgoing.is_empty() {
            stream.sending = Sending::Finished;
            flags |= FIN;
        }
        self.queued -= payload.len();
        stream.burst.send(payload.len(), now);
        out.push(FrameHeader::data(id, flags, payload.len() as u32), payload);
        if stream.writer_waits && stream.outgoing.len() <= most_queued / 2 {
            stream.writer_waits = false;
            self.events.push_back(Event::Writable(id));
        }
        if stream.drain_waits && stream.outgoing.is_empty() {
            stream.drain_waits = false;
            self.events.push_back(Event::Drained(id));
        }
        if stream.held || stream.sending != Sending::Finished {
            self.schedule(id, now);
        } else if stream.receiving == Receiving::Finished {
            self.remove(id);
        } else {
            self.cut(id);
        }
    }
}

impl Stream {
    fn next_payload(&mut self) -> Bytes {
        let most = FRAME_PAYLOAD.min(self.credit as usize);
        let payload = self.outgoing.pop(most).unwrap_or_default();
        self.credit -= payload.len() as u32;
        payload
    }
}

/// A frame with its header fills one TLS record.
pub(crate) const FRAME_PAYLOAD: usize = 16 * 1024 - HEADER_LEN;
