//! A real nginx, as an ordinary web service behind a device.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{Process, eventually};

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
        let directory = TempDir::new().unwrap();
        // Its workers may run as another user.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let address = crate::device::free_address();
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
        let mut command = Command::new("nginx");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("-e").arg("stderr").arg("-c").arg(&file);
        let process = Process::start("nginx", command);
        eventually("nginx listens", || async {
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
