//! Target of the fuzzer in this room: a connection whose peer has the keys and means ill, or has none and writes anyway.
//!
//! There is no handshake: both sides know their keys beforehand, so that an input says the same every time, and quickly.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};
use futures_util::Stream;
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, Tls13CipherSuite,
    crypto::{
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher::{AeadKey, Iv},
    },
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{HEADER, KEY_UPDATE, Keys, MOST_LEAVING, PLAIN, Records, buffers, io, keys::Source, whole};

/// The first byte says which side is ours, the second how the rest is cut on its way; the rest is what happens. However it
/// is cut, what is heard is what the peer sealed, in order, from the beginning and whole up to an orderly end; a peer that
/// does nothing wrong is heard to its end; and what is said meanwhile can be opened by the peer.
pub fn records(bytes: &[u8]) {
    let [manner, cut, acts @ ..] = bytes else { return };
    let is_client = manner & 1 == 0;
    let whole = play(is_client, usize::MAX, acts);
    let parts = play(is_client, 1 + usize::from(*cut), acts);
    assert_eq!(whole, parts, "the same bytes in other pieces");
}

/// What came of it, for our side.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    bytes: Vec<u8>,
    end: Option<End>,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Orderly,
    Cut,
    Fault(String),
}

fn play(is_client: bool, cut: usize, mut acts: &[u8]) -> Heard {
    let wire = Wire { cut, ..Wire::default() };
    let mut ours = Records::new(wire, keys(is_client), BytesMut::new(), BytesMut::new());
    let mut peer = Peer::new(keys(!is_client));
    let mut heard = Heard { bytes: vec![], end: None };
    let mut written = vec![];
    while let [act, rest @ ..] = acts {
        acts = rest;
        let sent = match (act & 7, act >> 3) {
            (0, _) => peer.seal(ContentType::ApplicationData, piece(&mut acts)),
            (1, _) => peer.seal(ContentType::Alert, piece(&mut acts)),
            (2, _) => peer.seal(ContentType::Handshake, piece(&mut acts)),
            (3, _) => peer.write_unsealed(piece(&mut acts)),
            (4, kind) => peer.seal(ContentType::from(kind), piece(&mut acts)),
            (5, at) => peer.seal_damaged(piece(&mut acts), usize::from(at)),
            (6, times) => peer.seal(ContentType::ApplicationData, &vec![times; usize::from(times) * 1024]),
            (_, 0 | 1) => peer.renew(act >> 3),
            (_, 2) => {
                written.extend_from_slice(write(&mut ours, piece(&mut acts)));
                vec![]
            }
            (_, 3) => {
                ours.io.is_stuck ^= true;
                vec![]
            }
            (_, 4) => {
                peer.has_left = true;
                vec![]
            }
            _ => {
                let _ = Pin::new(&mut ours).poll_shutdown(&mut waiting());
                vec![]
            }
        };
        if !ours.io.has_ended {
            ours.io.incoming.extend_from_slice(&sent);
            ours.io.has_ended = peer.has_left;
        }
        listen(&mut ours, &mut heard);
        if ours.io.has_ended {
            break;
        }
    }
    peer.judge(&heard);
    ours.io.is_stuck = false;
    let _ = ours.poll_leave(&mut waiting());
    assert_eq!(peer.hear(&mut ours.io.outgoing), written, "what was said and what the peer opened");
    heard
}

/// The next bytes of the input, as many as its next byte says.
fn piece<'a>(acts: &mut &'a [u8]) -> &'a [u8] {
    let [count, rest @ ..] = *acts else { return &[] };
    let (piece, rest) = rest.split_at(rest.len().min(usize::from(*count)));
    *acts = rest;
    piece
}

/// What of these bytes was taken.
fn write<'a>(ours: &mut Records<Wire>, bytes: &'a [u8]) -> &'a [u8] {
    match Pin::new(ours).poll_write(&mut waiting(), bytes) {
        Poll::Ready(Ok(count)) => &bytes[..count],
        _ => &[],
    }
}

/// Takes all that there is to hear now.
fn listen(ours: &mut Records<Wire>, heard: &mut Heard) {
    loop {
        let next = Pin::new(&mut *ours).poll_next(&mut waiting());
        assert!(ours.leaving.len() <= MOST_LEAVING, "{} records wait", ours.leaving.len());
        assert!(
            ours.arrived.len() <= buffers::SIZE + buffers::LEAST,
            "{} bytes are held",
            ours.arrived.len()
        );
        let end = match next {
            Poll::Pending => return,
            Poll::Ready(Some(Ok(bytes))) => {
                assert!(heard.end.is_none() && !bytes.is_empty());
                heard.bytes.extend_from_slice(&bytes);
                continue;
            }
            Poll::Ready(None) => End::Orderly,
            Poll::Ready(Some(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => End::Cut,
            Poll::Ready(Some(Err(error))) => End::Fault(error.to_string()),
        };
        match &heard.end {
            None => heard.end = Some(end),
            Some(_) => {
                assert_eq!(end, End::Orderly, "an end is told once");
                return;
            }
        }
    }
}

/// The other side, which has the keys.
struct Peer {
    keys: Keys,
    /// What it said in sealed records, until it said that this was all.
    said: Vec<u8>,
    has_closed: bool,
    has_left: bool,
    /// It did nothing that a peer must not do.
    is_honest: bool,
}

impl Peer {
    fn new(keys: Keys) -> Self {
        Self { keys, said: vec![], has_closed: false, has_left: false, is_honest: true }
    }

    fn seal(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        // As RFC 8446 §5.4 pads: the last octet that is not zero is the kind.
        let mut inner = [content, &[kind.into()]].concat();
        let padding = inner.iter().rev().take_while(|octet| **octet == 0).count();
        inner.truncate(inner.len() - padding);
        match inner.pop().map(ContentType::from) {
            Some(ContentType::ApplicationData) if padding == 0 && inner.len() <= PLAIN => self.say(&inner),
            Some(ContentType::Alert) if padding == 0 && matches!(inner[..], [_, CLOSE_NOTIFY]) => {
                self.has_closed = true;
            }
            Some(ContentType::Alert) if padding == 0 && matches!(inner[..], [_, USER_CANCELED]) => {}
            other => {
                self.is_honest &= self.has_closed;
                match other {
                    Some(ContentType::ApplicationData) => self.say(&inner),
                    Some(ContentType::Alert) if matches!(inner[..], [_, CLOSE_NOTIFY]) => {
                        self.has_closed = true;
                    }
                    _ => {}
                }
            }
        }
        self.keys.seal(kind, &[content]).expect("keys that sealed a few records only")
    }

    fn say(&mut self, bytes: &[u8]) {
        if !self.has_closed {
            self.said.extend_from_slice(bytes);
        }
    }

    fn write_unsealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.is_honest &= bytes.is_empty() || self.has_closed;
        bytes.to_vec()
    }

    fn seal_damaged(&mut self, content: &[u8], at: usize) -> Vec<u8> {
        let mut record = self.keys.seal(ContentType::ApplicationData, &[content]).expect("as above");
        let at = at % record.len();
        record[at] ^= 1 << (content.len() % 8);
        // The version in the header means nothing (RFC 8446 §5.1).
        if (1..3).contains(&at) {
            self.say(content);
        } else {
            self.is_honest &= self.has_closed;
        }
        record
    }

    /// Other keys from now on; whether ours are asked for, too.
    fn renew(&mut self, asks: u8) -> Vec<u8> {
        let update = [KEY_UPDATE, 0, 0, 1, asks];
        let record = self.keys.seal(ContentType::Handshake, &[&update]).expect("as above");
        self.keys.renew_sealing().expect("rehearsed keys have successors");
        record
    }

    /// Whether what was heard is what this peer said.
    fn judge(&self, heard: &Heard) {
        assert!(
            self.said.starts_with(&heard.bytes),
            "bytes that the peer did not seal, or not in this order"
        );
        if heard.end == Some(End::Orderly) {
            assert!(self.has_closed && heard.bytes == self.said, "an orderly end before the peer's");
        }
        if self.is_honest {
            assert!(heard.bytes == self.said, "an honest peer is not heard");
            let end = if self.has_closed { Some(End::Orderly) } else { self.has_left.then_some(End::Cut) };
            assert_eq!(heard.end, end, "an honest peer's end");
        }
    }

    /// Opens what our side sent.
    fn hear(&mut self, sent: &mut [u8]) -> Vec<u8> {
        let (mut sent, mut heard) = (BytesMut::from(&sent[..]), vec![]);
        while let Some(length) = whole(&sent).expect("records alone") {
            let mut record = sent.split_to(HEADER + length);
            let (kind, count) =
                self.keys.open(&mut record[HEADER..]).expect("sealed with the keys of its turn");
            record.advance(HEADER);
            match kind {
                ContentType::ApplicationData => heard.extend_from_slice(&record[..count]),
                ContentType::Handshake => self.keys.renew_opening().expect("as above"),
                ContentType::Alert => assert_eq!(count, 2),
                other => panic!("a record of kind {other:?}"),
            }
        }
        assert!(sent.is_empty(), "half a record");
        heard
    }
}

/// A socket whose other end is the input.
#[derive(Debug, Default)]
struct Wire {
    incoming: BytesMut,
    has_ended: bool,
    outgoing: Vec<u8>,
    is_stuck: bool,
    /// The most that it moves at once.
    cut: usize,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.incoming.is_empty() && !self.has_ended {
            return Poll::Pending;
        }
        let count = self.incoming.len().min(self.cut).min(buffer.remaining());
        buffer.put_slice(&self.incoming.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_stuck {
            return Poll::Pending;
        }
        let count = bytes.len().min(self.cut);
        self.outgoing.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Keys that both sides know beforehand, and those that follow them.
#[derive(Debug)]
pub(super) struct Rehearsed {
    pub(super) is_client: bool,
    sealing: u8,
    opening: u8,
}

impl Rehearsed {
    pub(super) fn suite(&self) -> &'static Tls13CipherSuite {
        TLS13_AES_256_GCM_SHA384.tls13().expect("a suite of TLS 1.3")
    }

    pub(super) fn update_tx_secret(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.sealing = self.sealing.wrapping_add(1);
        Ok((0, secrets(self.is_client, self.sealing)))
    }

    pub(super) fn update_rx_secret(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.opening = self.opening.wrapping_add(1);
        Ok((0, secrets(!self.is_client, self.opening)))
    }
}

fn keys(is_client: bool) -> Keys {
    let extracted = ExtractedSecrets { tx: (0, secrets(is_client, 0)), rx: (0, secrets(!is_client, 0)) };
    let source = Source::Rehearsed(Rehearsed { is_client, sealing: 0, opening: 0 });
    Keys::new(source, extracted).expect("keys of a known suite")
}

fn secrets(of_client: bool, generation: u8) -> ConnectionTrafficSecrets {
    let key = AeadKey::from([generation ^ (u8::from(of_client) << 7); 32]);
    ConnectionTrafficSecrets::Aes256Gcm { key, iv: Iv::new([generation; 12]) }
}

fn waiting() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
