//! Both ends of connections of one kind, and the cloud's way to open streams on them.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, task::Poll, thread, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt;
use model::{Generation, SessionId};
use runtime::{Records, records};
use tcpmux_proto::{CloudControl, SessionHandle, Settings, StreamKind, Welcome, testing};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_rustls::server::TlsStream;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::{Kind, cables::Cables, device};
use crate::backend::spawn;

/// One stream, whatever carries it.
pub(super) type Pipe = Box<dyn Bytes>;

pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// The cloud's end of one connection.
pub(super) enum Cloud {
    Single(Option<Pipe>),
    Yamux(mpsc::Sender<oneshot::Sender<Pipe>>),
    Ours { session: SessionHandle, _control: CloudControl },
}

/// Runs `work` on the cloud's end of `count` connections; the other ends live on a thread of their own.
pub(super) fn run<T>(kind: Kind, count: usize, work: impl AsyncFnOnce(Vec<Cloud>) -> T) -> T {
    run_over(kind, count, |cloud| cloud, work)
}

/// The same where the device dials what `line` makes of the cloud's address.
pub(super) fn run_over<T>(
    kind: Kind,
    count: usize,
    line: impl FnOnce(SocketAddr) -> SocketAddr,
    work: impl AsyncFnOnce(Vec<Cloud>) -> T,
) -> T {
    let cables = Cables::new();
    let cloud = runtime();
    let (result, device) = cloud.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = line(listener.local_addr().unwrap());
        let device = device_thread(kind, count, dialled, cables.clone());
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            ends.push(Cloud::over(kind, socket, &cables).await);
        }
        (work(ends).await, device)
    });
    // Every connection ends with the tasks that serve it; then the device's end is done too.
    drop(cloud);
    device.join().unwrap();
    result
}

fn device_thread(kind: Kind, count: usize, cloud: SocketAddr, cables: Cables) -> thread::JoinHandle<()> {
    thread::spawn(move || runtime().block_on(device::serve(kind, count, cloud, cables)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl Cloud {
    async fn over(kind: Kind, socket: TcpStream, cables: &Cables) -> Self {
        let acceptor = &cables.acceptor;
        match kind {
            Kind::Tcp => Self::Single(Some(Box::new(socket))),
            Kind::Tls => Self::Single(Some(Box::new(acceptor.accept(socket).await.unwrap()))),
            Kind::Yamux => Self::yamux(acceptor.accept(socket).await.unwrap()),
            Kind::Ours => {
                let config = Arc::clone(acceptor.config());
                let (records, _) = records::accept(socket, config, BytesMut::new()).await.unwrap();
                Self::ours(records).await
            }
        }
    }

    pub(super) async fn open(&mut self) -> Pipe {
        match self {
            Self::Single(pipe) => pipe.take().expect("this kind has one stream"),
            Self::Yamux(opener) => {
                let (give, take) = oneshot::channel();
                assert!(opener.send(give).await.is_ok(), "the connection stands");
                take.await.unwrap()
            }
            Self::Ours { session, .. } => {
                Box::new(session.open(testing::header("bench", StreamKind::Tcp)).unwrap())
            }
        }
    }

    fn yamux(tls: TlsStream<TcpStream>) -> Self {
        let (opener, mut wanted) = mpsc::channel::<oneshot::Sender<Pipe>>(64);
        let mut connection =
            yamux::Connection::new(tls.compat(), yamux::Config::default(), yamux::Mode::Server);
        let mut asked = None;
        spawn(poll_fn(move |cx| {
            loop {
                if asked.is_none()
                    && let Poll::Ready(Some(next)) = wanted.poll_recv(cx)
                {
                    asked = Some(next);
                }
                if asked.is_some()
                    && let Poll::Ready(Ok(stream)) = connection.poll_new_outbound(cx)
                {
                    let _ = asked.take().map(|give| give.send(Box::new(stream.compat()) as Pipe));
                    continue;
                }
                match connection.poll_next_inbound(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        Self::Yamux(opener)
    }

    async fn ours(records: Records<TcpStream>) -> Self {
        let settings = Settings::default();
        let heartbeat = settings.heartbeat;
        let (driver, handshake) = tcpmux_proto::cloud(records, settings);
        spawn(driver.map(drop));
        let greeting = handshake.hello(Duration::from_secs(5)).await.unwrap();
        let welcome = Welcome {
            session: SessionId::from_random([0; 16]),
            generation: Generation(1),
            features: Vec::new(),
            heartbeat,
            limits: Default::default(),
        };
        let (session, control) = greeting.welcome(welcome).await.unwrap();
        Self::Ours { session, _control: control }
    }
}
