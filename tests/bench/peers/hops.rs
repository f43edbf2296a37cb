//! What one hop of TLS costs without a tunnel: a program that encrypts, and one that decrypts.

use std::{fmt::Write, process::Command};

use tempfile::TempDir;

use super::{
    certificate, installed,
    pair::{End, Program, Subject},
};
use crate::backend::Ports;

pub(super) fn haproxy(name: &'static str, backend: Ports) -> Result<Subject, String> {
    let program = installed("haproxy", "haproxy")?;
    let directory = TempDir::new().unwrap();
    certificate(directory.path());
    let (ports, between, base) = (Ports::free(), Ports::free(), directory.path().display());
    let begin = "global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n";
    let (mut front, mut back) = (begin.to_owned(), begin.to_owned());
    for (((service, entrance), (_, middle)), (_, port)) in
        ports.named().into_iter().zip(between.named()).zip(backend.named())
    {
        let tls = format!(
            "ssl verify required ca-file {base}/certificate.pem sni str(localhost) verifyhost localhost"
        );
        writeln!(
            front,
            "listen {service}\n  bind 127.0.0.1:{entrance}\n  server hop 127.0.0.1:{middle} {tls}"
        )
        .unwrap();
        let tls = format!("ssl crt {base}/both.pem");
        writeln!(
            back,
            "listen {service}\n  bind 127.0.0.1:{middle} {tls}\n  server service 127.0.0.1:{port}"
        )
        .unwrap();
    }
    let programs = [(End::Client, "back", back), (End::Server, "front", front)].map(|(end, side, text)| {
        let (config, program) = (directory.path().join(side), program.clone());
        std::fs::write(&config, text).unwrap();
        Program::start(end, move || {
            let mut command = Command::new(&program);
            command.args(["-db", "-f"]).arg(&config);
            command
        })
    });
    Ok(Subject::programs(name, ports, programs.into(), directory))
}

pub(super) fn stunnel(name: &'static str, backend: Ports) -> Result<Subject, String> {
    let program = installed("stunnel4", "stunnel4")?;
    let directory = TempDir::new().unwrap();
    certificate(directory.path());
    let (ports, between, base) = (Ports::free(), Ports::free(), directory.path().display());
    let begin = "foreground = yes\npid =\nsyslog = no\ndebug = 3\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n";
    let mut front = format!(
        "{begin}client = yes\nCAfile = {base}/certificate.pem\nverifyChain = yes\ncheckHost = localhost\n"
    );
    let mut back = format!("{begin}cert = {base}/certificate.pem\nkey = {base}/key.pem\n");
    for (((service, entrance), (_, middle)), (_, port)) in
        ports.named().into_iter().zip(between.named()).zip(backend.named())
    {
        writeln!(front, "[{service}]\naccept = 127.0.0.1:{entrance}\nconnect = 127.0.0.1:{middle}").unwrap();
        writeln!(back, "[{service}]\naccept = 127.0.0.1:{middle}\nconnect = 127.0.0.1:{port}").unwrap();
    }
    let programs = [(End::Client, "back", back), (End::Server, "front", front)].map(|(end, side, text)| {
        let (config, program) = (directory.path().join(side), program.clone());
        std::fs::write(&config, text).unwrap();
        Program::start(end, move || {
            let mut command = Command::new(&program);
            command.arg(&config);
            command
        })
    });
    Ok(Subject::programs(name, ports, programs.into(), directory))
}
