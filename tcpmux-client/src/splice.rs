//! Bytes both ways between a stream of the tunnel and a local connection.
//!
//! The end of one side is told to the other as what it was: an end as an end, anything else as a reset.
//! Each direction ends on its own.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tcpmux_proto::{Duplex, Gather, Pieces, StreamKind, TunnelStream};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::timeout,
};

use crate::local::LocalStream;

/// How a splice ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both directions came to their end.
    Complete,
    /// The cloud's side was reset or lost.
    ByCloud(io::Error),
    /// The local service reset the connection; so did we towards the cloud.
    ByService(io::Error),
}

/// Why one direction stopped early.
enum Stopped {
    Cloud(io::Error),
    Service(io::Error),
}

/// Copies until both directions have ended or one side is gone.
pub(crate) async fn splice(tunnel: TunnelStream, local: LocalStream, kind: StreamKind) -> Ended {
    let cut = pin!(tunnel.cut());
    let tunnel = Duplex::new(tunnel);
    let (from_service, to_service) = split(local);
    let (outcome, service) = both(&tunnel, from_service, to_service, cut).await;
    match outcome {
        Ok(()) => Ended::Complete,
        // Dropping the tunnel's stream resets it.
        Err(Stopped::Service(error)) => Ended::ByService(error),
        Err(Stopped::Cloud(error)) => {
            // A hang-up after the answer is how HTTP streams end. HTTP knows by itself whether a message
            // is complete, and its services log a reset as a fault.
            if kind == StreamKind::Tcp {
                service.abort();
            }
            Ended::ByCloud(error)
        }
    }
}

async fn both(
    tunnel: &Duplex,
    mut from_service: ReadHalf<LocalStream>,
    mut to_service: WriteHalf<LocalStream>,
    cut: impl Future<Output = io::Error> + Unpin,
) -> (Result<(), Stopped>, LocalStream) {
    let deaf = AtomicBool::new(false);
    let outcome = {
        let mut up = pin!(upwards(&mut from_service, tunnel));
        let mut down = pin!(downwards(tunnel, &mut to_service, &deaf, cut));
        // Up first: what a service said before it went away goes out before its end is noticed below.
        tokio::select! {
            biased;
            outcome = &mut up => match outcome {
                // The service answered early and hung up, and its answer is out, whole. A reset now could
                // overtake the answer at the cloud, so what still comes is thrown away for a while.
                Ok(()) if deaf.load(Ordering::Relaxed) => {
                    drop(timeout(LINGER, down).await);
                    Ok(())
                }
                Ok(()) => down.await,
                Err(stopped) => Err(stopped),
            },
            outcome = &mut down => match outcome {
                Ok(()) => up.await,
                Err(stopped) => Err(stopped),
            },
        }
    };
    (outcome, from_service.unsplit(to_service))
}

async fn upwards(from_service: &mut ReadHalf<LocalStream>, tunnel: &Duplex) -> Result<(), Stopped> {
    let mut gather = Gather::default();
    while gather.fill(from_service).await.map_err(Stopped::Service)? > 0 {
        gather.pass_to(tunnel).await.map_err(Stopped::Cloud)?;
    }
    tunnel.shutdown().await.map_err(Stopped::Cloud)
}

async fn downwards(
    tunnel: &Duplex,
    to_service: &mut WriteHalf<LocalStream>,
    deaf: &AtomicBool,
    mut cut: impl Future<Output = io::Error> + Unpin,
) -> Result<(), Stopped> {
    let mut pieces = Pieces::default();
    loop {
        let ended = tunnel.take(AT_ONCE, &mut pieces).await.map_err(Stopped::Cloud)? == 0;
        // A service that hears no more may still have something to say: its own end or reset, which the
        // other direction meets, decides. Reading goes on, so that a reset of the cloud is noticed.
        if !deaf.load(Ordering::Relaxed) {
            let written = async {
                if ended {
                    return to_service.shutdown().await;
                }
                pieces.write_to(to_service).await
            };
            tokio::select! {
                biased;
                outcome = written => deaf.store(outcome.is_err(), Ordering::Relaxed),
                // A service that does not read must not keep a stream whose caller has gone away.
                error = &mut cut => return Err(Stopped::Cloud(error)),
            }
        }
        if deaf.load(Ordering::Relaxed) {
            pieces = Pieces::default();
        }
        if ended {
            return Ok(());
        }
    }
}

/// Bytes taken from the tunnel before they are written.
const AT_ONCE: usize = 64 * 1024;
const LINGER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tcpmux_proto::{
        SessionHandle,
        testing::{self, Pair},
    };
    use tokio::{
        io::{AsyncRead, AsyncReadExt},
        net::{TcpListener, TcpStream},
        task::JoinHandle,
    };

    use super::*;

    /// A stream of the cloud, spliced to a connection whose other end the test holds.
    struct Wire {
        cloud: TunnelStream,
        service: TcpStream,
        ended: JoinHandle<Ended>,
        session: SessionHandle,
        _pair: Pair,
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no shutdown to wait for")]
    async fn wire(kind: StreamKind) -> Wire {
        let mut pair = Pair::new(|driver| drop(tokio::spawn(driver))).await;
        let mut cloud = pair.cloud.open(testing::header("web", kind)).unwrap();
        cloud.write_all(b"!").await.unwrap();
        let incoming = pair.device.incoming.next().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut service, _) = listener.accept().await.unwrap();
        let ended = tokio::spawn(async move {
            let tunnel = incoming.accept().await;
            splice(tunnel, LocalStream::Tcp(local), kind).await
        });
        assert_eq!(service.read_u8().await.unwrap(), b'!');
        Wire { cloud, service, ended, session: pair.cloud.clone(), _pair: pair }
    }

    fn reset(stream: TcpStream) {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = vec![];
        let outcome = stream.read_to_end(&mut bytes).await.map(drop);
        (bytes, outcome)
    }

    #[tokio::test]
    async fn each_side_can_finish_while_the_other_goes_on() {
        let mut wire = wire(StreamKind::Tcp).await;
        wire.cloud.write_all(b"question").await.unwrap();
        wire.cloud.shutdown().await.unwrap();
        assert_eq!(read_all(&mut wire.service).await.0, b"question");
        wire.service.write_all(b"answer").await.unwrap();
        drop(wire.service);
        let (bytes, end) = read_all(&mut wire.cloud).await;
        assert_eq!(bytes, b"answer");
        end.unwrap();
        assert!(matches!(wire.ended.await.unwrap(), Ended::Complete));
    }

    #[tokio::test]
    async fn a_reset_of_the_service_is_a_reset_at_the_cloud_and_an_end_is_an_end() {
        for (kind, cut) in [
            (StreamKind::Http, true),
            (StreamKind::Tcp, true),
            (StreamKind::Http, false),
            (StreamKind::Tcp, false),
        ] {
            let mut wire = wire(kind).await;
            wire.service.write_all(b"half of it").await.unwrap();
            let mut first = [0; 10];
            wire.cloud.read_exact(&mut first).await.unwrap();
            if cut {
                reset(wire.service);
            } else {
                drop(wire.service);
            }
            let (bytes, end) = read_all(&mut wire.cloud).await;
            assert!(bytes.is_empty());
            match end {
                Err(error) if cut => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
                Ok(()) if !cut => {}
                other => panic!("cut {cut}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_reset_of_the_cloud_resets_a_raw_service_and_hangs_up_on_an_http_one() {
        for (kind, is_reset) in [(StreamKind::Tcp, true), (StreamKind::Http, false)] {
            let mut wire = wire(kind).await;
            wire.cloud.write_all(b"begin").await.unwrap();
            wire.service.read_exact(&mut [0; 5]).await.unwrap();
            wire.cloud.reset();
            let outcome = wire.service.read(&mut [0; 5]).await;
            match outcome {
                Err(error) if is_reset => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
                Ok(0) if !is_reset => {}
                other => panic!("{kind:?}: {other:?}"),
            }
            assert!(matches!(wire.ended.await.unwrap(), Ended::ByCloud(_)));
        }
    }

    #[tokio::test]
    async fn a_service_that_reads_nothing_keeps_no_stream_that_the_cloud_has_reset() {
        for kind in [StreamKind::Http, StreamKind::Tcp] {
            let mut wire = wire(kind).await;
            // Until every buffer on the way is full.
            while timeout(Duration::from_millis(300), wire.cloud.write_all(&[0; 65_536])).await.is_ok() {}
            assert!(!wire.ended.is_finished());
            wire.cloud.reset();
            let ended = timeout(Duration::from_secs(5), wire.ended).await.expect("the reset is noticed");
            assert!(matches!(ended.unwrap(), Ended::ByCloud(_)), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_lost_tunnel_resets_a_raw_service() {
        let mut wire = wire(StreamKind::Tcp).await;
        wire.cloud.write_all(b"begin").await.unwrap();
        wire.service.read_exact(&mut [0; 5]).await.unwrap();
        wire.session.close(model::DisconnectCause::Lost);
        let error = wire.service.read(&mut [0; 5]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn an_early_answer_arrives_whole_although_the_service_hears_no_more() {
        let mut wire = wire(StreamKind::Http).await;
        wire.service.write_all(&[b'x'; 100_000]).await.unwrap();
        drop(wire.service);
        // The cloud goes on with its upload into a socket that is closed, long after the answer.
        let (mut reader, mut writer) = split(wire.cloud);
        let upload = async { while writer.write_all(&[0; 4096]).await.is_ok() {} };
        let answer = read_all(&mut reader);
        tokio::pin!(upload);
        let (bytes, end) = tokio::select! {
            answer = answer => answer,
            () = &mut upload => panic!("the upload failed before the answer was read"),
        };
        assert_eq!(bytes.len(), 100_000);
        end.unwrap();
    }

    #[tokio::test]
    async fn bulk_passes_unchanged_in_both_directions_at_once() {
        let wire = wire(StreamKind::Tcp).await;
        let data: Vec<u8> = (0..3_000_000_u32).map(|number| (number * 31 / 7) as u8).collect();
        let (mut from_cloud, mut to_cloud) = split(wire.cloud);
        let (mut from_service, mut to_service) = wire.service.into_split();
        let sends = async {
            tokio::try_join!(
                async {
                    to_cloud.write_all(&data).await?;
                    to_cloud.shutdown().await
                },
                async {
                    to_service.write_all(&data).await?;
                    to_service.shutdown().await
                }
            )
            .unwrap();
        };
        let ((), up, down) = tokio::join!(sends, read_all(&mut from_cloud), read_all(&mut from_service));
        assert!(up.0 == data && down.0 == data);
        assert!(matches!(wire.ended.await.unwrap(), Ended::Complete));
    }
}
