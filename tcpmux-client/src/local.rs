//! A connection to a local service.

use std::{
    io::{self, IoSlice},
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

use crate::{certificate::fingerprint, target::LocalTarget, trust::Anybody};

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

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use runtime::Tasks;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;
    use crate::{
        fake_cloud::{serve_tls, server_config},
        test_pki::{ALWAYS, Pki},
    };

    /// An https service that says hello and then hangs up, politely or not.
    async fn https_service(tasks: &Tasks, politely: bool) -> (LocalTarget, Fingerprint) {
        let pki = Pki::new();
        let config = server_config(&pki, &["camera.local"], ALWAYS, &[]);
        let port = serve_tls(tasks, config, move |mut stream| async move {
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            if politely {
                stream.shutdown().await.unwrap();
            }
        })
        .await
        .port();
        let target = format!("https://127.0.0.1:{port}").parse().unwrap();
        let stream = LocalStream::connect(&target).await.unwrap();
        let LocalStream::Tls(tls) = stream else { panic!("not TLS") };
        let shown = fingerprint(&tls.get_ref().1.peer_certificates().unwrap()[0]);
        (target, shown)
    }

    fn pinned(target: &LocalTarget, to: Fingerprint) -> LocalTarget {
        let LocalTarget::Https { addresses, name, .. } = target.clone() else { panic!("not https") };
        LocalTarget::Https { addresses, name, pin: Some(to) }
    }

    #[tokio::test]
    async fn a_loopback_https_service_may_show_any_certificate_but_a_pinned_one_only_its_own() {
        let tasks = Tasks::new();
        let (target, shown) = https_service(&tasks, true).await;
        let mut text = String::new();
        LocalStream::connect(&target).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        LocalStream::connect(&pinned(&target, shown)).await.unwrap();
        let error = LocalStream::connect(&pinned(&target, Fingerprint([0; 32]))).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        tasks.end();
    }

    #[tokio::test]
    async fn a_tls_connection_cut_without_a_word_is_an_error_and_no_end() {
        let tasks = Tasks::new();
        let (target, _) = https_service(&tasks, false).await;
        let mut stream = LocalStream::connect(&target).await.unwrap();
        let error = stream.read_to_end(&mut vec![]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        tasks.end();
    }

    #[tokio::test]
    async fn a_unix_socket_is_reached_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut near = LocalStream::connect(&LocalTarget::Unix(path)).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }
}
