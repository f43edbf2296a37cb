//! Records against rustls's own stream, and against a peer that does what it should not.

use std::sync::Arc;

use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::tls::provider;

/// Settings of both sides, with a certificate each.
struct Settings {
    server: ServerConfig,
    client: ClientConfig,
}

impl Settings {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        let (issuer, roots) = (Issuer::new(params, key), Arc::new(roots));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let (chain, key) = leaf(&issuer);
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let (chain, key) = leaf(&issuer);
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        server.alpn_protocols = vec![b"one".to_vec(), b"two".to_vec()];
        client.alpn_protocols = vec![b"two".to_vec()];
        (server.enable_secret_extraction, client.enable_secret_extraction) = (true, true);
        Self { server, client }
    }
}

fn leaf(issuer: &Issuer<'static, KeyPair>) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["here".to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn here() -> ServerName<'static> {
    ServerName::try_from("here").unwrap()
}

fn pipe() -> (DuplexStream, DuplexStream) {
    duplex(100_000)
}

/// Our client and rustls's server.
async fn our_client() -> (Records<DuplexStream>, server::TlsStream<DuplexStream>) {
    let Settings { server, client } = Settings::new();
    let (near, far) = pipe();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (ours, theirs) = tokio::join!(connect(near, Arc::new(client), here()), acceptor.accept(far));
    let (ours, peer) = ours.unwrap();
    assert_eq!((peer.alpn.as_deref(), peer.certificates.len()), (Some(&b"two"[..]), 1));
    (ours, theirs.unwrap())
}

/// Our server and rustls's client.
async fn our_server() -> (Records<DuplexStream>, client::TlsStream<DuplexStream>) {
    let Settings { server, client } = Settings::new();
    let (near, far) = pipe();
    let connector = TlsConnector::from(Arc::new(client));
    let (ours, theirs) =
        tokio::join!(accept(near, Arc::new(server), BytesMut::new()), connector.connect(here(), far));
    let (ours, peer) = ours.unwrap();
    assert_eq!((peer.alpn.as_deref(), peer.certificates.len()), (Some(&b"two"[..]), 1));
    (ours, theirs.unwrap())
}

/// Both sides ours, over a pipe whose bytes the test may see.
async fn ours() -> (Records<DuplexStream>, Records<DuplexStream>) {
    let Settings { server, client } = Settings::new();
    let (near, far) = pipe();
    let (client, server) =
        tokio::join!(connect(near, Arc::new(client), here()), accept(far, Arc::new(server), BytesMut::new()));
    (client.unwrap().0, server.unwrap().0)
}

fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|at| (at * 31 + at / 253) as u8).collect()
}

async fn read(records: &mut Records<DuplexStream>, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend_from_slice(&records.next().await.expect("more to come").unwrap());
    }
    all
}

async fn fault(records: &mut Records<DuplexStream>) -> io::Error {
    records.next().await.expect("not an end").expect_err("not bytes")
}

/// Every byte both ways, whatever the sizes, and both orderly ends.
async fn converse<T>(mut ours: Records<DuplexStream>, mut theirs: T)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let data = bytes(700_000);
    for piece in [1, 12, 5000, 16_384, 70_000] {
        let part = &data[..(piece * 40).min(data.len())];
        let writes = async {
            for some in part.chunks(piece) {
                theirs.write_all(some).await.unwrap();
                theirs.flush().await.unwrap();
            }
        };
        let (_, got) = tokio::join!(writes, read(&mut ours, part.len()));
        assert!(got == part, "towards us, pieces of {piece}");
        let mut got = vec![0; part.len()];
        let writes = async {
            for some in part.chunks(piece) {
                ours.write_all(some).await.unwrap();
            }
            ours.flush().await.unwrap();
        };
        let (_, read) = tokio::join!(writes, theirs.read_exact(&mut got));
        read.unwrap();
        assert!(got == part, "towards them, pieces of {piece}");
    }
    ours.shutdown().await.unwrap();
    assert_eq!(theirs.read(&mut [0; 10]).await.unwrap(), 0, "an orderly end");
    theirs.write_all(b"last words").await.unwrap();
    theirs.shutdown().await.unwrap();
    assert_eq!(read(&mut ours, 10).await, b"last words");
    assert!(ours.next().await.is_none(), "an orderly end");
    assert_eq!(ours.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(ours.arrived.capacity(), 0, "nothing is held once all is read");
}

#[tokio::test]
async fn both_sides_speak_with_rustls_in_pieces_of_any_size_and_end_in_order() {
    let (ours, theirs) = our_client().await;
    converse(ours, theirs).await;
    let (ours, theirs) = our_server().await;
    converse(ours, theirs).await;
}

#[tokio::test]
async fn parts_of_one_write_share_records_and_full_records_share_writes() {
    let (mut ours, mut theirs) = ours().await;
    let (head, body) = ([7; 12], vec![9; PLAIN - 12]);
    let parts: Vec<IoSlice<'_>> = [&head[..], &body].into_iter().cycle().take(10).map(IoSlice::new).collect();
    let count = ours.write_vectored(&parts).await.unwrap();
    assert_eq!(count, RECORDS_AT_ONCE * PLAIN);
    ours.flush().await.unwrap();
    for _ in 0..RECORDS_AT_ONCE {
        let piece = theirs.next().await.unwrap().unwrap();
        assert!(piece.len() == PLAIN && piece[..12] == head && piece[12..] == body);
    }
}

#[tokio::test]
async fn a_large_part_behind_small_ones_lies_in_one_record() {
    let (mut ours, mut theirs) = ours().await;
    let (small, head, body) = ([1; 25], [7; 12], vec![9; PLAIN - 12]);
    let parts = [&small[..], &head, &body, &head, &body].map(IoSlice::new);
    let count = ours.write_vectored(&parts).await.unwrap();
    ours.flush().await.unwrap();
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < count {
        sizes.push(theirs.next().await.unwrap().unwrap().len());
    }
    assert_eq!(sizes, [25 + 12, PLAIN, PLAIN - 12]);
}

#[tokio::test]
async fn an_end_without_a_close_notify_is_an_error() {
    let (mut ours, theirs) = our_client().await;
    drop(theirs.into_inner());
    assert_eq!(fault(&mut ours).await.kind(), io::ErrorKind::UnexpectedEof);
    assert!(ours.next().await.is_none(), "it is told once");
}

#[tokio::test]
async fn what_is_said_with_the_end_of_the_handshake_is_heard() {
    let Settings { server, client } = Settings::new();
    let (near, far) = pipe();
    let speaks = async {
        let (mut client, _) = connect(near, Arc::new(client), here()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let hears = async {
        let (mut server, _) = accept(far, Arc::new(server), BytesMut::new()).await.unwrap();
        assert_eq!(server.early, &b"hello"[..], "it came with the last of the handshake");
        assert_eq!(read(&mut server, 5).await, b"hello");
    };
    tokio::join!(speaks, hears);
}

#[tokio::test]
async fn a_hello_that_was_read_already_is_handed_over() {
    let Settings { server, client } = Settings::new();
    let (near, mut far) = pipe();
    let accepts = async {
        let mut seen = BytesMut::new();
        far.read_buf(&mut seen).await.unwrap();
        accept(far, Arc::new(server), seen).await
    };
    let (client, server) = tokio::join!(connect(near, Arc::new(client), here()), accepts);
    let ((mut client, _), (mut server, _)) = (client.unwrap(), server.unwrap());
    client.write_all(b"after it").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(read(&mut server, 8).await, b"after it");
}

#[tokio::test]
async fn other_keys_are_taken_from_rustls_and_rustls_takes_ours() {
    let (mut ours, mut theirs) = our_client().await;
    for round in 0..3_u8 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(&[round; 100]).await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(read(&mut ours, 100).await, [round; 100]);
        ours.renew_sealing().unwrap();
        ours.write_all(&[round; 100]).await.unwrap();
        ours.flush().await.unwrap();
        let mut got = [9; 100];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [round; 100]);
    }
}

#[tokio::test]
async fn a_peer_that_asks_for_other_keys_is_answered_once_whatever_it_asks() {
    let (mut ours, mut theirs) = ours().await;
    for _ in 0..100 {
        theirs.say(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 1]).unwrap();
        theirs.keys.renew_sealing().unwrap();
        theirs.flush().await.unwrap();
    }
    theirs.write_all(b"hello").await.unwrap();
    theirs.flush().await.unwrap();
    assert_eq!(read(&mut ours, 5).await, b"hello");
    assert_eq!(ours.leaving.len(), MOST_LEAVING - 1, "none has left, and the last word has its place");
    ours.write_all(b"and back").await.unwrap();
    ours.flush().await.unwrap();
    assert_eq!(read(&mut theirs, 8).await, b"and back");
}

#[tokio::test]
async fn keys_that_sealed_enough_are_replaced_in_time() {
    let (mut ours, mut theirs) = our_client().await;
    ours.keys.wear_out_after(5);
    let data = bytes(600_000);
    let mut got = vec![0; data.len()];
    let writes = async {
        ours.write_all(&data).await.unwrap();
        ours.flush().await.unwrap();
    };
    let (_, read) = tokio::join!(writes, theirs.read_exact(&mut got));
    read.unwrap();
    assert!(got == data && !ours.keys.are_worn());
}

#[tokio::test]
async fn a_changed_byte_ends_the_connection_and_the_peer_is_told() {
    let (mut ours, theirs) = our_client().await;
    let (mut socket, mut theirs) = theirs.into_inner();
    io::Write::write_all(&mut theirs.writer(), b"hello").unwrap();
    let mut wire = Vec::new();
    while theirs.wants_write() {
        theirs.write_tls(&mut wire).unwrap();
    }
    *wire.last_mut().unwrap() ^= 1;
    socket.write_all(&wire).await.unwrap();
    let error = fault(&mut ours).await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("decrypt"), "{error}");
    let mut alert = vec![0; 100];
    let count = socket.read(&mut alert).await.unwrap();
    theirs.read_tls(&mut &alert[..count]).unwrap();
    let told = theirs.process_new_packets().unwrap_err();
    assert_eq!(told, Error::AlertReceived(AlertDescription::BadRecordMac));
}

#[tokio::test]
async fn an_alert_of_the_peer_is_named() {
    let (mut ours, mut theirs) = ours().await;
    let alert = [FATAL, AlertDescription::CertificateRevoked.into()];
    theirs.say(ContentType::Alert, &alert).unwrap();
    theirs.flush().await.unwrap();
    let error = fault(&mut ours).await;
    assert!(error.to_string().contains("CertificateRevoked"), "{error}");
}

#[tokio::test]
async fn what_has_no_place_after_a_handshake_ends_the_connection() {
    let ticket_to_a_server = [NEW_SESSION_TICKET, 0, 0, 0];
    let cut_short = [KEY_UPDATE, 0, 0];
    let longer_than_it_is = [KEY_UPDATE, 0, 0, 9, 0];
    let not_alone = [KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0];
    let unknown_request = [KEY_UPDATE, 0, 0, 1, 2];
    let a_hello = [1, 0, 0, 0];
    let messages: [&[u8]; 6] =
        [&ticket_to_a_server, &cut_short, &longer_than_it_is, &not_alone, &unknown_request, &a_hello];
    for message in messages {
        let (mut client, mut server) = ours().await;
        client.say(ContentType::Handshake, message).unwrap();
        client.flush().await.unwrap();
        assert_eq!(fault(&mut server).await.kind(), io::ErrorKind::InvalidData, "{message:?}");
        assert_eq!(fault(&mut client).await.kind(), io::ErrorKind::InvalidData, "it is told");
    }
    // Records in the clear, and one that is longer than any may be.
    for wire in [&[22, 3, 3, 0, 1, 0][..], &[20, 3, 3, 0, 1, 1], &[23, 3, 3, 0x41, 1]] {
        let (mut client, mut server) = ours().await;
        client.io.write_all(wire).await.unwrap();
        assert_eq!(fault(&mut server).await.kind(), io::ErrorKind::InvalidData, "{wire:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_says_why_to_both() {
    let Settings { server, client } = Settings::new();
    let (near, far) = pipe();
    let elsewhere = ServerName::try_from("elsewhere").unwrap();
    let (client, server) = tokio::join!(
        connect(near, Arc::new(client), elsewhere),
        accept(far, Arc::new(server), BytesMut::new())
    );
    let (client, server) = (client.unwrap_err(), server.unwrap_err());
    assert_eq!((client.kind(), server.kind()), (io::ErrorKind::InvalidData, io::ErrorKind::InvalidData));
    assert!(client.to_string().contains("not valid for name"), "{client}");
    assert!(server.to_string().contains("alert"), "{server}");
    let (near, far) = pipe();
    drop(near);
    let cut = accept(far, Arc::new(Settings::new().server), BytesMut::new()).await.unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
}

/// What a peer may say, and what has to come of it.
fn say_something(dice: &mut fastrand::Rng, peer: &mut Records<DuplexStream>, out: &mut Vec<u8>) -> Verdict {
    let (kind, message): (_, Vec<u8>) = match dice.u8(..12) {
        0..5 => {
            let mut data = vec![0; dice.usize(..3000)];
            dice.fill(&mut data);
            out.extend_from_slice(&data);
            peer.say(ContentType::ApplicationData, &data).unwrap();
            return Verdict::GoesOn;
        }
        5 => {
            peer.renew_sealing().unwrap();
            return Verdict::GoesOn;
        }
        6 => {
            peer.say(ContentType::Alert, &[WARNING, AlertDescription::UserCanceled.into()]).unwrap();
            return Verdict::GoesOn;
        }
        7 => {
            peer.say(ContentType::Alert, &[WARNING, AlertDescription::CloseNotify.into()]).unwrap();
            return Verdict::Ends;
        }
        8 => (ContentType::Alert, vec![FATAL, dice.u8(1..90)]),
        9 => (ContentType::Handshake, vec![dice.u8(5..24); dice.usize(1..9)]),
        10 => (ContentType::Alert, vec![0; dice.usize(3..9)]),
        _ => (ContentType::from(dice.u8(24..)), vec![0; dice.usize(1..9)]),
    };
    peer.say(kind, &message).unwrap();
    Verdict::Breaks
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    GoesOn,
    Ends,
    Breaks,
}

#[tokio::test]
async fn whatever_a_peer_says_is_read_up_to_the_first_fault_and_nothing_after_it() {
    for seed in 0..300 {
        let (mut dice, (mut ours, mut peer)) = (fastrand::Rng::with_seed(seed), ours().await);
        let (mut wanted, mut verdict) = (vec![], Verdict::GoesOn);
        for _ in 0..dice.usize(1..12) {
            let mut said = vec![];
            let came = say_something(&mut dice, &mut peer, &mut said);
            peer.flush().await.unwrap();
            if verdict == Verdict::GoesOn {
                wanted.extend(said);
                verdict = came;
            }
        }
        // Without a close_notify the end is a cut.
        drop(peer);
        let mut got = vec![];
        let end = loop {
            match ours.next().await {
                Some(Ok(piece)) => got.extend_from_slice(&piece),
                Some(Err(error)) => break Some(error.kind()),
                None => break None,
            }
        };
        let expected = match verdict {
            Verdict::GoesOn => Some(io::ErrorKind::UnexpectedEof),
            Verdict::Ends => None,
            Verdict::Breaks => Some(io::ErrorKind::InvalidData),
        };
        assert_eq!(end, expected, "seed {seed}");
        assert!(got == wanted, "seed {seed}: {} bytes of {}", got.len(), wanted.len());
        assert!(ours.next().await.is_none(), "seed {seed}: something after the end");
    }
}
