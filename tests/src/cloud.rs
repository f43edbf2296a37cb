//! A cloud: a real `tcpmux up` on free ports and a data directory of its own.

use std::{
    ffi::OsStr,
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Door, Finished, Process, Provider, TlsClient, binaries, eventually, eventually_within, run};

/// A cloud that runs until it is dropped.
#[derive(Debug)]
pub struct Cloud {
    plan: CloudPlan,
    directory: TempDir,
    process: Process,
    listening: Value,
    key: String,
    tls: TlsClient,
    earlier_logs: String,
}

/// How a cloud is to be started.
#[derive(Debug, Clone, Default)]
pub struct CloudPlan {
    config: String,
    environment: Vec<(String, String)>,
    log_level: Option<String>,
    device_listen: Option<SocketAddr>,
    trusted: Option<PathBuf>,
    disk: Option<PathBuf>,
    flags: Vec<String>,
}

impl Cloud {
    /// A cloud with all roles, nothing configured.
    pub async fn start() -> Self {
        Self::plan().start().await
    }

    /// A cloud whose users this provider vouches for.
    pub async fn with_provider(provider: &Provider) -> Self {
        Self::plan().provider(provider).start().await
    }

    /// A cloud to be described further.
    pub fn plan() -> CloudPlan {
        CloudPlan::default()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The user door.
    pub fn user(&self) -> Door {
        self.door("user")
    }

    /// The device door.
    pub fn device(&self) -> Door {
        self.door("device")
    }

    /// The admin door.
    pub fn admin(&self) -> Door {
        self.door("admin")
    }

    /// The admin key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What `listening.json` says.
    pub fn listening(&self) -> &Value {
        &self.listening
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All that it has said since its first start.
    pub fn log(&self) -> String {
        format!("{}{}", self.earlier_logs, self.process.log())
    }

    /// The address that devices dial.
    pub fn device_address(&self) -> SocketAddr {
        self.device().address()
    }

    /// The root certificate's file.
    pub fn root(&self) -> PathBuf {
        self.data().join("ca/root.crt")
    }

    /// The root's fingerprint, as in `sha256:…`.
    pub fn fingerprint(&self) -> String {
        use rustls_pki_types::{CertificateDer, pem::PemObject};
        let root = CertificateDer::from_pem_file(self.root()).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &root);
        format!("sha256:{}", model::hex(digest.as_ref()))
    }

    /// Runs `tcpmux` with these words and this cloud's data directory.
    pub async fn command(&self, words: &str) -> Finished {
        let mut arguments: Vec<String> = words.split(' ').map(str::to_owned).collect();
        arguments.extend(["--data".to_owned(), self.data().display().to_string()]);
        run(binaries::cloud_program(), arguments, b"").await
    }

    /// Calls the admin door with the key; the answer has to be a success, as JSON, `null` if empty.
    ///
    /// # Panics
    /// If it is not.
    pub async fn administer(&self, method: Method, path: &str, body: Value) -> Value {
        let mut call =
            self.admin().call(method.clone(), path).admin(&self.key).header("accept", "application/json");
        if !body.is_null() {
            call = call.json(&body);
        }
        let answer = call.send().await;
        let status = answer.status;
        let text = answer.text().await;
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        if text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"))
    }

    /// A passcode bound to a device.
    pub async fn passcode(&self, device: &str) -> String {
        let made = self.administer(Method::POST, "/admin/api/otp", json!({"device": device})).await;
        made["otp"].as_str().expect("the answer has the passcode").to_owned()
    }

    /// An enrolment string for a device, which names the address where devices come in here.
    pub async fn enrolment_string(&self, device: &str) -> String {
        self.enrolment_string_through(self.device_address(), device).await
    }

    /// The same, with another address to dial: of something that leads here.
    pub async fn enrolment_string_through(&self, address: SocketAddr, device: &str) -> String {
        let passcode = self.passcode(device).await;
        format!("tcpmux://{address}/?ca={}&otp={passcode}&device={device}", self.fingerprint())
    }

    /// A proxy token from the admin door.
    pub async fn token(&self, device: &str, level: &str) -> String {
        let body = json!({"device": device, "level": level});
        let answer = self.administer(Method::POST, "/admin/api/tokens", body).await;
        answer["token"].as_str().expect("the answer has the token").to_owned()
    }

    /// A device as the admin door shows it.
    pub async fn device_record(&self, device: &str) -> Value {
        self.administer(Method::GET, &format!("/admin/api/devices/{device}"), Value::Null).await
    }

    /// Waits until a device is online, or is not.
    pub async fn until_online(&self, device: &str, online: bool, time: Duration) {
        let path = format!("/admin/api/devices/{device}");
        eventually_within(time, &format!("{device} online: {online}"), || async {
            let answer = self.admin().get(&path).admin(&self.key).try_send().await;
            match answer {
                Ok(answer) if answer.status == 200 => {
                    let record = answer.json().await;
                    if record["online"] == online { Ok(()) } else { Err(record.to_string()) }
                }
                Ok(answer) => Err(answer.status.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// The user id behind a provider's token.
    pub async fn user_id(&self, token: &str) -> String {
        let me = self.user().get("/v1/me").bearer(token).send().await.expect(200).await.json().await;
        me["id"].as_str().expect("the answer has the id").to_owned()
    }

    /// Gives a user a level on a device.
    pub async fn grant(&self, device: &str, user: &str, grant: Value) {
        self.administer(Method::PUT, &format!("/admin/api/devices/{device}/grants/{user}"), grant).await;
    }

    /// A proxy token for what a user has been granted.
    pub async fn user_token(&self, provider_token: &str) -> String {
        let answer = self.user().post("/v1/token").bearer(provider_token).json(&json!({})).send().await;
        let answer = answer.expect(200).await.json().await;
        answer["token"].as_str().expect("the answer has the token").to_owned()
    }

    /// Another process that holds the database's write lock until it is dropped.
    pub async fn lock_database(&self) -> Process {
        let script = "import sqlite3, sys, time\n\
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
            connection.execute('BEGIN IMMEDIATE')\n\
            print('locked', flush=True)\n\
            time.sleep(600)\n";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(self.data().join("tcpmux.db"));
        let process = Process::start("locker", command);
        eventually("the database is locked", || async {
            let log = process.log();
            if log.contains("locked") { Ok(()) } else { Err(log) }
        })
        .await;
        process
    }

    /// Ends the process without warning.
    pub fn kill(&mut self) {
        self.process.kill();
        self.earlier_logs += &self.process.log();
    }

    /// Asks the process to drain and end; its exit code.
    pub async fn stop(&mut self) -> i32 {
        self.process.signal("TERM");
        let code = self.process.exit_code(Duration::from_secs(45)).await;
        self.earlier_logs += &self.process.log();
        code
    }

    /// Starts it again after [`Cloud::kill`] or [`Cloud::stop`], on the same data and the same ports.
    pub async fn start_again(&mut self) {
        self.start_again_with(&[]).await;
    }

    /// The same with other variables in the environment.
    pub async fn start_again_with(&mut self, environment: &[(&str, &str)]) {
        let mut plan = self.plan.clone();
        plan.environment = environment.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let addresses = ["user", "device", "admin"].map(|door| self.door_address(door));
        // What a killed process left must not be taken for the new one's word.
        let _ = std::fs::remove_file(self.data().join("listening.json"));
        self.process = Process::start("tcpmux", plan.command(self.directory.path(), addresses));
        let data = self.data();
        self.listening = listening(&mut self.process, &data).await;
    }

    fn door(&self, name: &str) -> Door {
        Door::new(self.door_address(name), self.tls.clone())
    }

    fn door_address(&self, name: &str) -> SocketAddr {
        let text =
            self.listening[name].as_str().unwrap_or_else(|| panic!("no {name} door in {}", self.listening));
        let mut address: SocketAddr = text.parse().unwrap();
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    }
}

impl CloudPlan {
    /// More configuration, as TOML.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        writeln!(self.config, "{text}").expect("a string takes it");
        self
    }

    /// Users of this provider.
    #[must_use]
    pub fn provider(self, provider: &Provider) -> Self {
        self.config(&provider.config())
    }

    /// A variable of the environment, for the first start alone.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// How much it logs; `info` otherwise.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = Some(level.into());
        self
    }

    /// Where devices come in; a free port of loopback otherwise.
    #[must_use]
    pub fn device_listen(mut self, address: SocketAddr) -> Self {
        self.device_listen = Some(address);
        self
    }

    /// Whose server certificates callers trust; the cloud's own root otherwise.
    #[must_use]
    pub fn trusted(mut self, file: &Path) -> Self {
        self.trusted = Some(file.to_owned());
        self
    }

    /// A flag more.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Keeps its data on this disk; where temporary files are otherwise.
    #[must_use]
    pub fn on_disk(mut self, directory: &Path) -> Self {
        self.disk = Some(directory.to_owned());
        self
    }

    /// Starts it and waits until its doors are open.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(self) -> Cloud {
        let directory = self.disk.as_ref().map_or_else(TempDir::new, TempDir::new_in).unwrap();
        std::fs::write(directory.path().join("cloud.toml"), &self.config).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let addresses = [any, self.device_listen.unwrap_or(any), any];
        let mut process = Process::start("tcpmux", self.command(directory.path(), addresses));
        let data = directory.path().join("data");
        let listening = listening(&mut process, &data).await;
        let key = std::fs::read_to_string(data.join("admin.key")).expect("the first start makes it");
        let root = self.trusted.clone().unwrap_or_else(|| data.join("ca/root.crt"));
        let tls = TlsClient::trusting(&root);
        let key = key.trim_end().to_owned();
        Cloud { plan: self, directory, process, listening, key, tls, earlier_logs: String::new() }
    }

    fn command(&self, directory: &Path, [user, device, admin]: [SocketAddr; 3]) -> Command {
        let mut command = Command::new(binaries::cloud_program());
        command.args(["--log", "json", "--log-level", self.log_level.as_deref().unwrap_or("info"), "up"]);
        command.arg("--config").arg(directory.join("cloud.toml")).arg("--data").arg(directory.join("data"));
        for (flag, address) in
            [("--user-listen", user), ("--device-listen", device), ("--admin-listen", admin)]
        {
            command.arg(flag).arg(address.to_string());
        }
        command.args(&self.flags).current_dir(directory);
        clean_environment(&mut command);
        command.envs(self.environment.iter().map(|(key, value)| (OsStr::new(key), OsStr::new(value))));
        command
    }
}

/// Takes away what the person who runs the tests may have set for a cloud or a device of their own.
pub(crate) fn clean_environment(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        let text = key.to_string_lossy().to_ascii_lowercase();
        if text.starts_with("tcpmux") || text.ends_with("_proxy") {
            command.env_remove(&key);
        }
    }
}

async fn listening(process: &mut Process, data: &Path) -> Value {
    eventually_within(Duration::from_secs(30), "the cloud opens its doors", || {
        let ended = process.ended();
        assert!(ended.is_none(), "the cloud ended with {ended:?}: {}", process.log());
        let text = std::fs::read_to_string(data.join("listening.json"));
        async move { text.map(|text| serde_json::from_str(&text).unwrap()) }
    })
    .await
}
