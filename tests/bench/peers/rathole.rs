//! Tunnels that are crates: rathole with each of its transports, and bore.

use std::process::Command;

use tempfile::TempDir;

use super::{
    built, certificate, command,
    pair::{End, Program, Subject},
};
use crate::{backend::Ports, load::free_ports};

#[derive(Debug, Clone, Copy)]
pub(super) enum Transport {
    Tcp,
    Tls,
    Noise,
}

pub(super) fn start(name: &'static str, transport: Transport, backend: Ports) -> Result<Subject, String> {
    let program = built("rathole")?;
    let (directory, ports, [control]) = (TempDir::new().unwrap(), Ports::free(), free_ports::<1>());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (server, client) = match transport {
        Transport::Tcp => (String::new(), String::new()),
        Transport::Tls => {
            certificate(directory.path());
            let (both, identity, root) = (file("both.pem"), file("identity.pfx"), file("certificate.pem"));
            let words = ["pkcs12", "-export", "-in", &both, "-out", &identity, "-passout", "pass:bench"];
            command("openssl", &words);
            let server = format!(
                "[server.transport]\ntype = \"tls\"\n\
                 [server.transport.tls]\npkcs12 = \"{identity}\"\npkcs12_password = \"bench\"\n"
            );
            let client = format!(
                "[client.transport]\ntype = \"tls\"\n\
                 [client.transport.tls]\ntrusted_root = \"{root}\"\nhostname = \"localhost\"\n"
            );
            (server, client)
        }
        Transport::Noise => {
            let said = command(&program, &["--genkey"]);
            let keys: Vec<&str> = said.lines().map(str::trim).filter(|line| line.len() == 44).collect();
            let [private, public] = keys[..] else { return Err(format!("rathole --genkey said: {said}")) };
            let server = format!(
                "[server.transport]\ntype = \"noise\"\n[server.transport.noise]\nlocal_private_key = \"{private}\"\n"
            );
            let client = format!(
                "[client.transport]\ntype = \"noise\"\n[client.transport.noise]\nremote_public_key = \"{public}\"\n"
            );
            (server, client)
        }
    };
    let mut server =
        format!("[server]\nbind_addr = \"127.0.0.1:{control}\"\ndefault_token = \"bench\"\n{server}");
    let mut client =
        format!("[client]\nremote_addr = \"127.0.0.1:{control}\"\ndefault_token = \"bench\"\n{client}");
    for ((service, entrance), (_, port)) in ports.named().into_iter().zip(backend.named()) {
        server += &format!("[server.services.{service}]\nbind_addr = \"127.0.0.1:{entrance}\"\n");
        client += &format!("[client.services.{service}]\nlocal_addr = \"127.0.0.1:{port}\"\n");
    }
    let programs =
        [(End::Server, "--server", server), (End::Client, "--client", client)].map(|(end, flag, text)| {
            let (config, program) = (file(&format!("rathole{flag}.toml")), program.clone());
            std::fs::write(&config, text).unwrap();
            Program::start(end, move || {
                let mut command = Command::new(&program);
                command.args([flag, &config]).env("RUST_LOG", "error");
                command
            })
        });
    Ok(Subject::programs(name, ports, programs.into(), directory))
}

/// One server, and a client for each port.
pub(super) fn bore(name: &'static str, backend: Ports) -> Result<Subject, String> {
    let program = built("bore")?;
    if std::net::TcpListener::bind("127.0.0.1:7835").is_err() {
        return Err("its control port 7835, which cannot be chosen, is taken".into());
    }
    let (directory, ports) = (TempDir::new().unwrap(), Ports::free());
    let server = program.clone();
    let mut programs = vec![Program::start(End::Server, move || {
        let mut command = Command::new(&server);
        command.args(["server", "--bind-addr", "127.0.0.1", "--secret", "bench"]).env("RUST_LOG", "error");
        command
    })];
    // Its clients do not try again.
    let begin = tokio::time::Instant::now();
    while std::net::TcpStream::connect("127.0.0.1:7835").is_err() {
        if begin.elapsed().as_secs() > 10 {
            return Err("its server opens no port".into());
        }
        std::thread::yield_now();
    }
    for ((_, entrance), (_, port)) in ports.named().into_iter().zip(backend.named()) {
        let program = program.clone();
        programs.push(Program::start(End::Client, move || {
            let mut command = Command::new(&program);
            let (entrance, port) = (entrance.to_string(), port.to_string());
            command.args(["local", &port, "--to", "127.0.0.1", "--port", &entrance, "--secret", "bench"]);
            command.env("RUST_LOG", "error");
            command
        }));
    }
    Ok(Subject::programs(name, ports, programs, directory))
}
