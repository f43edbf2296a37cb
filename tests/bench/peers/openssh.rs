//! `ssh -R`: an sshd where callers come in, an ssh where the services are.

use std::process::Command;

use tempfile::TempDir;

use super::{
    command, installed,
    pair::{End, Program, Subject},
};
use crate::{backend::Ports, load::free_ports};

pub(super) fn start(name: &'static str, backend: Ports) -> Result<Subject, String> {
    let sshd = installed("sshd", "openssh-server")?;
    let ssh = installed("ssh", "openssh-client")?;
    let (directory, ports, [port]) = (TempDir::new().unwrap(), Ports::free(), free_ports::<1>());
    let file = |name: &str| directory.path().join(name).display().to_string();
    for key in ["host_key", "user_key"] {
        command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &file(key)]);
    }
    std::fs::copy(file("user_key.pub"), file("authorized_keys")).unwrap();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\nAllowTcpForwarding yes\n",
        file("host_key"),
        file("authorized_keys")
    );
    std::fs::write(file("sshd_config"), config).unwrap();
    // It wants this for its own privileges, and only a package's script would make it.
    let _ = std::fs::create_dir_all("/run/sshd");
    let words = ["-D", "-e", "-f", &file("sshd_config")].map(str::to_owned);
    let server = Program::start(End::Server, move || {
        let mut command = Command::new(&sshd);
        command.args(&words);
        command
    });
    let begin = tokio::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begin.elapsed().as_secs() > 10 {
            return Err("sshd opens no port".into());
        }
        std::thread::yield_now();
    }
    let user = command("id", &["-un"]);
    let mut words: Vec<String> =
        ["-N", "-F", "none", "-c", "aes128-gcm@openssh.com", "-i"].map(str::to_owned).into();
    words.push(file("user_key"));
    let hosts = format!("UserKnownHostsFile={}", file("known_hosts"));
    for option in [
        "StrictHostKeyChecking=accept-new",
        "BatchMode=yes",
        "ExitOnForwardFailure=yes",
        "ServerAliveInterval=5",
        &hosts,
    ] {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    for ((_, entrance), (_, service)) in ports.named().into_iter().zip(backend.named()) {
        words.extend(["-R".to_owned(), format!("127.0.0.1:{entrance}:127.0.0.1:{service}")]);
    }
    words.extend(["-p".to_owned(), port.to_string(), format!("{}@127.0.0.1", user.trim())]);
    let client = Program::start(End::Client, move || {
        let mut command = Command::new(&ssh);
        command.args(&words);
        command
    });
    Ok(Subject::programs(name, ports, vec![server, client], directory))
}
