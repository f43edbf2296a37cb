//! What stands behind the device, and nginx as a peer beside the cloud.

use std::{net::SocketAddr, path::Path, process::Command};

use tempfile::TempDir;
use tests::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(crate) struct Backend {
    /// Head and body in one segment.
    pub(crate) whole: u16,
    /// Head and body in two.
    pub(crate) split: u16,
    /// nginx as a TLS reverse proxy that opens a connection to the backend for each request.
    pub(crate) tls_proxy: u16,
    pub(crate) echo: SocketAddr,
    pub(crate) source: SocketAddr,
    pub(crate) sink: SocketAddr,
    _nginx: Process,
    _directory: TempDir,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let [whole, split, tls_proxy] = crate::load::free_ports();
        let nginx = nginx(directory.path(), whole, split, tls_proxy);
        for port in [whole, split, tls_proxy] {
            tests::eventually("nginx listens", || async {
                TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
            })
            .await;
        }
        Self {
            whole,
            split,
            tls_proxy,
            echo: serve(echo).await,
            source: serve(source).await,
            sink: serve(sink).await,
            _nginx: nginx,
            _directory: directory,
        }
    }
}

fn nginx(directory: &Path, whole: u16, split: u16, tls_proxy: u16) -> Process {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let base = directory.display();
    std::fs::write(directory.join("index.html"), vec![b'x'; 1024]).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-days", "2"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {base}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off;\nworker_processes 1;\npid {base}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n access_log off; keepalive_requests 10000000;\n{temporary}\
         server {{ listen 127.0.0.1:{whole} backlog=4096; root {base}; sendfile off; }}\n\
         server {{ listen 127.0.0.1:{split} backlog=4096; root {base}; sendfile on; tcp_nopush off; }}\n\
         server {{ listen 127.0.0.1:{tls_proxy} ssl backlog=4096; ssl_certificate {base}/cert.pem;\n\
           ssl_certificate_key {base}/key.pem; location / {{ proxy_pass http://127.0.0.1:{whole}; }} }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).args(["-e", "stderr", "-c"]).arg(file);
    Process::start("nginx", command)
}

async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            spawn(answer(socket));
        }
    });
    address
}

async fn echo(mut socket: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        if socket.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn source(mut socket: TcpStream) {
    let buffer = vec![0x5a; 256 * 1024];
    while socket.write_all(&buffer).await.is_ok() {}
}

async fn sink(mut socket: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(1..) = socket.read(&mut buffer).await {}
}

#[expect(clippy::disallowed_methods, reason = "a program for developers ends all at once")]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
