//! A Redis server of one test: its own port, its own directory, gone with the test.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
};

use redis::{FromRedisValue, aio::MultiplexedConnection};
use registry::RedisAddress;
use tempfile::TempDir;

use crate::nodes::until;

pub(crate) struct Server {
    port: u16,
    directory: TempDir,
    process: Child,
}

impl Server {
    pub(crate) async fn start() -> Self {
        // Another program may take the port before the server does: then it ends, and another port is tried.
        for _ in 0..20 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let directory = tempfile::tempdir().unwrap();
            let mut server = Self { port, process: spawn(port, &directory), directory };
            if server.answers().await {
                return server;
            }
        }
        panic!("no port for a Redis server was free for long enough");
    }

    pub(crate) fn address(&self) -> RedisAddress {
        format!("redis://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// Ends it without a chance to write anything.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same port and directory.
    pub(crate) async fn start_again(&mut self) {
        self.process = spawn(self.port, &self.directory);
        assert!(self.answers().await, "the server starts again");
    }

    pub(crate) fn signal(&self, name: &str) {
        let process = self.process.id().to_string();
        let done = Command::new("kill").arg(format!("-{name}")).arg(process).status().unwrap();
        assert!(done.success());
    }

    /// Asks the server as an operator would.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await.unwrap()).await.unwrap()
    }

    /// The rows of devices that are there: `tenant/device` and generation.
    pub(crate) async fn rows(&self) -> Vec<(String, u64)> {
        let keys: Vec<String> = self.ask(&["KEYS", "tcpmux:session:*"]).await;
        let mut rows = vec![];
        for key in keys {
            // One that ends between the two questions is not there.
            if let Some(generation) = self.ask::<Option<u64>>(&["HGET", &key, "generation"]).await {
                rows.push((key.trim_start_matches("tcpmux:session:").to_owned(), generation));
            }
        }
        rows.sort();
        rows
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        client.get_multiplexed_async_connection().await
    }

    /// Waits until it answers; false if it has ended.
    async fn answers(&mut self) -> bool {
        let mut alive = true;
        until("the server answers or has ended", async || {
            alive = matches!(self.process.try_wait(), Ok(None));
            let Ok(mut connection) = self.connection().await else { return (!alive).then_some(()) };
            let pong = redis::cmd("PING").query_async::<String>(&mut connection).await;
            // A server that reads its file answers, but not yet so.
            (pong.is_ok() || !alive).then_some(())
        })
        .await;
        alive
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, directory: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
        .arg(directory.path())
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed; scripts/test installs it")
}
