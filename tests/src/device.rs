//! A device: a real `tcpmux-client` process, enrolled with a real passcode.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Cloud, Finished, Identity, Namespace, Process, binaries, cloud::clean_environment, eventually_within,
    run, run_ok,
};

/// A device that runs until it is dropped.
#[derive(Debug)]
pub struct Device {
    state: EnrolledDevice,
    /// What its command line says beside the state.
    words: Vec<String>,
    local_api: Option<SocketAddr>,
    process: Process,
    earlier_logs: String,
}

/// A device that has its certificate and does not run.
#[derive(Debug)]
pub struct EnrolledDevice {
    id: String,
    directory: TempDir,
}

impl Device {
    /// Enrols a device, runs it with these services, and waits until it is online.
    pub async fn enrol_and_run(cloud: &Cloud, id: &str, services: &[(&str, String)]) -> Self {
        let device = EnrolledDevice::enrol(cloud, id).await.run(services);
        cloud.until_online(id, true, Duration::from_secs(20)).await;
        device
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.state.state()
    }

    /// Its certificate and key, as a thief would have them.
    pub fn identity(&self) -> Identity {
        self.state.identity()
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All that it has said since its first start.
    pub fn log(&self) -> String {
        format!("{}{}", self.earlier_logs, self.process.log())
    }

    /// Ends the process without warning; the device keeps its state.
    pub fn kill(&mut self) {
        self.process.kill();
        self.earlier_logs += &self.process.log();
    }

    /// What a program on the device posts to the local API, by curl; the status of the answer.
    pub async fn report(&self, path: &str, body: &Value) -> String {
        let url = self.local(path);
        let json = "Content-Type: application/json";
        let words = ["-sS", "--max-time", "20", "-o", "/dev/stderr", "-w", "%{http_code}", "-H", json];
        let words = words.into_iter().chain(["--data-binary", "@-", &url]);
        run_ok("curl", words, body.to_string().as_bytes()).await
    }

    /// Waits until the local API answers.
    pub async fn until_local_api(&self) {
        let url = self.local("/v1/status");
        eventually_within(Duration::from_secs(30), "the local API answers", || async {
            let asked = run("curl", ["-sS", "--max-time", "5", &url], b"").await;
            if asked.code == 0 { Ok(()) } else { Err(asked.stderr) }
        })
        .await;
    }

    fn local(&self, path: &str) -> String {
        let address = self.local_api.expect("it runs with a local API: see `run_reporting`");
        format!("http://{address}{path}")
    }

    /// Starts it again after [`Device::kill`].
    pub fn start_again(&mut self) {
        let command = run_command(&self.state, &self.words, Command::new(binaries::client_program()));
        self.process = Process::start(&self.state.id, command);
    }

    /// Stops it for good; the state is left.
    pub fn stop(self) -> EnrolledDevice {
        drop(self.process);
        self.state
    }
}

impl EnrolledDevice {
    /// Enrols with the daemon's own command and a passcode for this device.
    pub async fn enrol(cloud: &Cloud, id: &str) -> Self {
        let text = cloud.enrolment_string(id).await;
        Self::enrol_with(&text, id).await
    }

    /// Enrols with this enrolment string.
    pub async fn enrol_with(text: &str, id: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let state = directory.path().join("state");
        run_ok(binaries::client_program(), enrol_words(&state), text.as_bytes()).await;
        Self { id: id.to_owned(), directory }
    }

    /// Tries to enrol with this enrolment string into this directory.
    pub async fn try_enrol(text: &str, state: &Path) -> Finished {
        run(binaries::client_program(), enrol_words(state), text.as_bytes()).await
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.state().join(CERTIFICATE)
    }

    /// The file of its key.
    pub fn key(&self) -> PathBuf {
        self.state().join(KEY)
    }

    /// Its certificate and key.
    pub fn identity(&self) -> Identity {
        Identity::read(&self.certificate(), &self.key())
    }

    /// Runs it with these services; it is not online at once.
    pub fn run(self, services: &[(&str, String)]) -> Device {
        self.run_as(words(services), Command::new(binaries::client_program()), None)
    }

    /// Runs it with these services and a local API for programs on the device, which answers when this returns.
    pub async fn run_reporting(self, services: &[(&str, String)]) -> Device {
        let (file, address) = (self.directory.path().join("client.toml"), free_address());
        std::fs::write(&file, format!("local_api = \"{address}\"\n")).unwrap();
        let mut words = vec!["--config".into(), file.display().to_string()];
        words.extend(service_words(services));
        let device = self.run_as(words, Command::new(binaries::client_program()), Some(address));
        device.until_local_api().await;
        device
    }

    /// Runs it with this configuration file; it is not online at once.
    pub fn run_configured(self, toml: &str) -> Device {
        let file = self.directory.path().join("client.toml");
        std::fs::write(&file, toml).unwrap();
        let words = vec![NO_LOCAL_API.into(), "--config".into(), file.display().to_string()];
        self.run_as(words, Command::new(binaries::client_program()), None)
    }

    /// Runs it in a network of its own.
    pub fn run_inside(self, namespace: &Namespace, services: &[(&str, String)]) -> Device {
        self.run_as(words(services), namespace.command(binaries::client_program()), None)
    }

    fn run_as(self, words: Vec<String>, program: Command, local_api: Option<SocketAddr>) -> Device {
        let process = Process::start(&self.id, run_command(&self, &words, program));
        Device { state: self, words, local_api, process, earlier_logs: String::new() }
    }
}

/// An address of loopback that nothing listens on at this moment.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn enrol_words(state: &Path) -> Vec<String> {
    ["enroll", "-", "--state", &state.display().to_string()].map(str::to_owned).into()
}

fn words(services: &[(&str, String)]) -> Vec<String> {
    [vec![NO_LOCAL_API.to_owned()], service_words(services)].concat()
}

fn service_words(services: &[(&str, String)]) -> Vec<String> {
    services.iter().flat_map(|(name, url)| ["--service".into(), format!("{name}={url}")]).collect()
}

fn run_command(device: &EnrolledDevice, words: &[String], mut command: Command) -> Command {
    command.args(["run", "--state"]).arg(device.state()).args(words);
    clean_environment(&mut command);
    command
}

const NO_LOCAL_API: &str = "--no-local-api";
const CERTIFICATE: &str = "current/certificate.pem";
const KEY: &str = "current/key.pem";
