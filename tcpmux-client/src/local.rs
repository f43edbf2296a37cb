//! A connection to a local service.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use model::Fingerprint;
use rustls::{
    ClientConfig,
    client::{Resumption, danger::ServerCertVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{certificate::fingerprint, services::LocalTarget, trust::Anybody};

/// Bytes to and from a local service.
#[derive(Debug)]
pub(crate) enum LocalStream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl LocalStream {
    /// Connects; the caller sets the time limit.
    pub(crate) async fn connect(target: &LocalTarget) -> io::Result<Self> {
        match target {
            LocalTarget::Http(addresses) | LocalTarget::Tcp(addresses) => {
                connect_tcp(addresses).await.map(Self::Tcp)
            }
            LocalTarget::Https { addresses, name, pin } => {
                let stream = connect_tcp(addresses).await?;
                connect_tls(stream, name, *pin).await.map(Box::new).map(Self::Tls)
            }
            LocalTarget::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    /// Ends the connection so that the service sees a reset, not an end.
    pub(crate) fn abort(self) {
        let socket = match &self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            // A Unix socket has no reset; what the service writes from now on fails.
            Self::Unix(_) => return,
        };
        if let Err(error) = socket.set_zero_linger() {
            tracing::debug!(%error, "a local connection could not be reset and is closed");
        }
    }
}

async fn connect_tcp(addresses: &[std::net::SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect_tls(
    stream: TcpStream,
    name: &ServerName<'static>,
    pin: Option<Fingerprint>,
) -> io::Result<TlsStream<TcpStream>> {
    // Without a pin the target is on this machine: whoever answers there could read the bytes anyway.
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Anybody(runtime::tls::provider()));
    let mut config = ClientConfig::builder_with_provider(runtime::tls::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    match pin {
        Some(pin) if shown.is_none_or(|certificate| fingerprint(certificate) != pin) => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the service shows another certificate"))
        }
        _ => Ok(stream),
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $do:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $do,
            Self::Tls($stream) => $do,
            Self::Unix($stream) => $do,
        }
    };
}

impl AsyncRead for LocalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
