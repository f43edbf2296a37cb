//! A real nginx, as an ordinary web service behind a device.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{Namespace, Process, eventually};

/// A running nginx with files of its own.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    directory: TempDir,
    _process: Process,
}

impl Nginx {
    /// Starts it on a free port of loopback. It answers `/` and `/hello.txt`.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        Self::start_as(crate::device::free_address(), None).await
    }

    /// Starts it on this port of the loopback of another network.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start_inside(namespace: &Namespace, port: u16) -> Self {
        Self::start_as(SocketAddr::from(([127, 0, 0, 1], port)), Some(namespace)).await
    }

    async fn start_as(address: SocketAddr, inside: Option<&Namespace>) -> Self {
        let directory = TempDir::new().unwrap();
        // Its workers may run as another user.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = directory.path().join("files");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("index.html"), "<h1>nginx behind the tunnel</h1>\n").unwrap();
        std::fs::write(root.join("hello.txt"), "hello from nginx\n").unwrap();
        let base = directory.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {base}/pid;\nerror_log stderr;\nevents {{ worker_connections 512; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {base}/body;\n  proxy_temp_path {base}/proxy;\n\
               fastcgi_temp_path {base}/fastcgi;\n  uwsgi_temp_path {base}/uwsgi;\n  scgi_temp_path {base}/scgi;\n\
               client_max_body_size 0;\n  server {{ listen {address}; root {base}/files; }}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = inside.map_or_else(|| Command::new("nginx"), |network| network.command("nginx"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("-e").arg("stderr").arg("-c").arg(&file);
        let process = Process::start("nginx", command);
        let pid = directory.path().join("pid");
        eventually("nginx listens", || async {
            // Into another network nobody looks from here: its pid file is written once it listens.
            if inside.is_some() {
                return if pid.exists() { Ok(()) } else { Err(process.log()) };
            }
            TcpStream::connect(address).await.map(drop).map_err(|error| format!("{error}: {}", process.log()))
        })
        .await;
        Self { address, directory, _process: process }
    }

    /// Its address for `--service`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory of the files that it serves.
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }
}
