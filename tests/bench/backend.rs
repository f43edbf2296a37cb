//! What stands behind the tunnels: nginx with small answers, and threads that echo, send and swallow bytes.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tempfile::TempDir;
use tests::Process;

use crate::processes::Group;

/// One port of loopback for each service; what leads to them has the same shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// HTTP: head and body in one segment.
    pub(crate) whole: u16,
    /// HTTP: head and body in two.
    pub(crate) split: u16,
    pub(crate) echo: u16,
    /// Sends for ever.
    pub(crate) source: u16,
    /// Reads for ever.
    pub(crate) sink: u16,
}

impl Ports {
    /// Ports that are free at this moment.
    pub(crate) fn free() -> Self {
        let [whole, split, echo, source, sink] = crate::load::free_ports();
        Self { whole, split, echo, source, sink }
    }

    /// Each with the name of its service.
    pub(crate) fn named(self) -> [(&'static str, u16); 5] {
        let Self { whole, split, echo, source, sink } = self;
        [("web", whole), ("split", split), ("echo", echo), ("source", source), ("sink", sink)]
    }
}

pub(crate) struct Backend {
    pub(crate) ports: Ports,
    received: Arc<AtomicU64>,
    _nginx: Server,
    _directory: TempDir,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let [whole, split] = crate::load::free_ports();
        let base = directory.path().display();
        std::fs::write(directory.path().join("index.html"), vec![b'x'; 1024]).unwrap();
        let servers = format!(
            "server {{ listen 127.0.0.1:{whole} backlog=4096; root {base}; sendfile off; }}\n\
             server {{ listen 127.0.0.1:{split} backlog=4096; root {base}; sendfile on; tcp_nopush off; }}\n"
        );
        let nginx = nginx(directory.path(), 1, &servers);
        for port in [whole, split] {
            answers(port).await;
        }
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let (echo, source) = (serve(echo), serve(source));
        let sink = serve(move |socket| sink(socket, &count));
        let ports = Ports { whole, split, echo, source, sink };
        Self { ports, received, _nginx: nginx, _directory: directory }
    }

    /// How many bytes the sink has read.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// An nginx that ends with its workers: those of a killed master would go on, and hold whatever the bench had open.
pub(crate) struct Server(Process);

impl Drop for Server {
    fn drop(&mut self) {
        Group(vec![self.0.id()]).kill();
    }
}

/// An nginx with these servers and so many workers.
pub(crate) fn nginx(directory: &Path, workers: usize, servers: &str) -> Server {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let base = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {base}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off;\nworker_processes {workers};\npid {base}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 10000000;\n{temporary}{servers}}}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).args(["-e", "stderr", "-c"]).arg(file);
    Server(Process::start("nginx", command))
}

/// Waits until something listens there.
pub(crate) async fn answers(port: u16) {
    tests::eventually("a port is open", || async {
        let opened = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        opened.map(drop).map_err(|error| format!("{port}: {error}"))
    })
    .await;
}

/// A thread for each connection, so that no runtime of ours adds to round trips.
fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let _ = socket.set_nodelay(true);
            let answer = answer.clone();
            thread::spawn(move || answer(socket));
        }
    });
    port
}

fn echo(mut socket: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        if socket.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn source(mut socket: TcpStream) {
    let buffer = vec![0x5a; 256 * 1024];
    while socket.write_all(&buffer).is_ok() {}
}

fn sink(mut socket: TcpStream, received: &AtomicU64) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        received.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "a program for developers ends all at once")]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
