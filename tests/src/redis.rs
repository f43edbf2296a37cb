//! A real Redis server: its own port and directory, gone when it is dropped.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{Authority, Process, eventually, run, run_ok};

/// A running server.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    /// Certificate, key and root, where it speaks TLS.
    tls: Option<[PathBuf; 3]>,
    directory: TempDir,
    process: Process,
}

impl Redis {
    /// Starts it on a free port of loopback.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same, over TLS alone, with the certificate of this authority.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_encrypted(authority: &Authority) -> Self {
        Self::start_with(Some([authority.certificate(), authority.key(), authority.root()])).await
    }

    async fn start_with(tls: Option<[PathBuf; 3]>) -> Self {
        let address = crate::device::free_address();
        let directory = TempDir::new().unwrap();
        let process = spawn(address, tls.as_ref(), &directory);
        let redis = Self { address, tls, directory, process };
        redis.answers().await;
        redis
    }

    /// As `--registry` takes it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address)
    }

    /// Asks it as an operator would; the answer has to be a success.
    pub async fn ask(&self, words: &str) -> String {
        run_ok("redis-cli", self.words(words), b"").await.trim_end().to_owned()
    }

    /// The devices that it holds a row of, in order, as `tenant/device`.
    pub async fn rows(&self) -> Vec<String> {
        let keys = self.ask("--raw KEYS tcpmux:session:*").await;
        let mut rows: Vec<_> =
            keys.lines().filter_map(|key| key.strip_prefix("tcpmux:session:")).map(str::to_owned).collect();
        rows.sort();
        rows
    }

    /// Sends it a signal, as in `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Redis::kill`], empty.
    pub async fn start_again(&mut self) {
        self.process = spawn(self.address, self.tls.as_ref(), &self.directory);
        self.answers().await;
    }

    async fn answers(&self) {
        eventually("redis-server answers", || async {
            let pong = run("redis-cli", self.words("PING"), b"").await;
            if pong.stdout.trim() == "PONG" { Ok(()) } else { Err(self.process.log()) }
        })
        .await;
    }

    fn words(&self, words: &str) -> Vec<String> {
        let port = self.address.port().to_string();
        let mut all = vec!["-h".to_owned(), self.address.ip().to_string(), "-p".to_owned(), port];
        if let Some([_, _, root]) = &self.tls {
            all.extend(["--tls".to_owned(), "--cacert".to_owned(), root.display().to_string()]);
        }
        all.extend(words.split(' ').map(str::to_owned));
        all
    }
}

fn spawn(address: SocketAddr, tls: Option<&[PathBuf; 3]>, directory: &TempDir) -> Process {
    let mut command = Command::new("redis-server");
    let port = address.port().to_string();
    command.args(["--bind", &address.ip().to_string()]);
    match tls {
        None => command.args(["--port", &port]),
        Some([certificate, key, root]) => command
            .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no", "--tls-cert-file"])
            .arg(certificate)
            .arg("--tls-key-file")
            .arg(key)
            .arg("--tls-ca-cert-file")
            .arg(root),
    };
    command.arg("--dir").arg(directory.path()).args([
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
    ]);
    Process::start("redis-server", command)
}
