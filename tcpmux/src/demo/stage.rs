//! The demo's cast: a cloud, a sign-in provider, three devices with services behind them, two people.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::Full;
use model::{DeviceId, Secret};
use runtime::{Clock, Tasks, http::HttpClient};
use serde_json::{Value, json};
use tcpmux_client::{
    Daemon, DaemonConfig, EnrollRequest, EnrolmentString, ServiceSpec, Services, StateDirectory, TrustedTime,
    WayOut, build_time,
};

use super::{
    provider::{self, Provider},
    say, services,
};
use crate::{
    cli::admin_client,
    config::Layers,
    data::{self, DataDirectory},
    house::House,
};

/// Everything that the demo runs.
pub(super) struct Stage {
    pub(super) house: House,
    pub(super) provider: Provider,
    pub(super) client: HttpClient,
    data: PathBuf,
    admin_key: Secret<String>,
    /// Tasks of the provider and the devices' programs; the cloud has its own.
    tasks: Tasks,
    daemons: Vec<Daemon>,
    /// Where programs on cam-01 leave their telemetry.
    local_api: Option<SocketAddr>,
}

impl Stage {
    /// Starts all of it.
    pub(super) async fn build(path: &Path) -> anyhow::Result<Self> {
        let (clock, tasks) = (Clock::system(), Tasks::new());
        let provider = Provider::start(clock.clone(), &tasks).await?;
        let data = DataDirectory::open(path)?;
        let (admin_key, _) = data.admin_key()?;
        let config = Layers::defaults()
            .with_text(&settings(&provider).await, "the demo's settings")
            .and_then(|layers| layers.build())
            .map_err(anyhow::Error::msg)?;
        let house =
            House::build(config, data, clock).await.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let client = admin_client(&path.join(data::ROOT)).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let mut stage = Self {
            house,
            provider,
            client,
            data: path.to_owned(),
            admin_key,
            tasks,
            daemons: vec![],
            local_api: None,
        };
        stage.ok("CA", &stage.house.root_fingerprint());
        stage.ok("cloud", &stage.user_url());
        stage.ok("sign-in", stage.provider.issuer());
        stage.enrol_devices().await?;
        Ok(stage)
    }

    /// The user door's address.
    pub(super) fn user_url(&self) -> String {
        format!("https://localhost:{}", self.house.listening().user.map_or(0, |address| address.port()))
    }

    /// The file in which a device shows its claim code while nobody owns it.
    pub(super) fn claim_code(&self, device: &str) -> PathBuf {
        self.data.join("devices").join(device).join("claim_code")
    }

    /// The local API of cam-01's daemon.
    pub(super) fn local_api(&self) -> anyhow::Result<SocketAddr> {
        self.local_api.context("cam-01 has no local API")
    }

    /// The file with the cloud's root certificate.
    pub(super) fn root(&self) -> PathBuf {
        self.data.join(data::ROOT)
    }

    /// The device door's address.
    pub(super) fn device_url(&self) -> String {
        format!("https://localhost:{}", self.house.listening().device.map_or(0, |address| address.port()))
    }

    /// Calls the admin door.
    pub(super) async fn admin(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        let port = self.house.listening().admin.map_or(0, |address| address.port());
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost:{port}{path}"))
            .header(header::AUTHORIZATION, format!("PROV-ADMIN {}", self.admin_key.expose()))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = self.client.call(request).await?;
        let status = response.status();
        anyhow::ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(response.body()));
        Ok(serde_json::from_slice(response.body()).unwrap_or_default())
    }

    /// Calls the user door with a bearer token.
    pub(super) async fn user(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.user_url()));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body: Bytes = body.into();
        if body.first() == Some(&b'{') {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        Ok(self.client.call(request.body(Full::new(body))?).await?)
    }

    /// Waits until the cloud says that a device is connected, or is not.
    pub(super) async fn until_online(&self, device: &str, wanted: bool) -> anyhow::Result<()> {
        let path = format!("/admin/api/devices/{device}");
        let look = async {
            loop {
                let seen = self.admin(Method::GET, &path, Value::Null).await;
                if seen.as_ref().is_ok_and(|seen| seen["online"] == wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), look)
            .await
            .with_context(|| format!("{device} is not {}", if wanted { "online" } else { "offline" }))
    }

    /// Commands to try next; each works as printed.
    pub(super) fn suggestions(&self) -> Vec<String> {
        let ca = self.data.join(data::ROOT).display().to_string();
        let (data, cloud) = (self.data.display().to_string(), self.user_url());
        let (devices, issuer) = (self.device_url(), self.provider.issuer());
        let admin =
            format!("https://localhost:{}", self.house.listening().admin.map_or(0, |address| address.port()));
        vec![
            String::new(),
            "Try next, in another terminal in this directory:".into(),
            String::new(),
            "# alice signs in, gets a token for the devices, and calls one".into(),
            format!("CA={ca}"),
            format!("CLOUD={cloud}"),
            format!("ID=$(curl -s {issuer}/token/alice)"),
            format!("BOBS_ID=$(curl -s {issuer}/token/bob)"),
            format!(
                "BOB=$(curl -s --cacert {ca} -H \"Authorization: Bearer $BOBS_ID\" {cloud}/v1/me | sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/')"
            ),
            format!(
                "TOKEN=$(curl -s --cacert {ca} -X POST -H \"Authorization: Bearer $ID\" {cloud}/v1/token | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')"
            ),
            format!("curl --cacert {ca} -H \"Authorization: Bearer $TOKEN\" {cloud}/d/cam-01/web/api/status"),
            format!(
                "curl --cacert {ca} -H \"Authorization: Bearer $TOKEN\" -d hello {cloud}/d/gate-02/web/api/echo"
            ),
            format!(
                "curl --cacert {ca} -H \"Authorization: Bearer $TOKEN\" -N --max-time 3 {cloud}/d/cam-01/web/api/clock"
            ),
            format!(
                "curl --cacert {ca} -H \"Authorization: Bearer $ID\" \"{cloud}/v1/devices/cam-01/history?order=desc&limit=5\""
            ),
            format!("curl --cacert {ca} -H \"Authorization: Bearer $ID\" {cloud}/v1/devices"),
            String::new(),
            "# the operator: a passcode for a new device, the list of devices".into(),
            format!(
                "curl --cacert {ca} -H \"Authorization: PROV-ADMIN $(cat {data}/admin.key)\" {admin}/admin/api/otp"
            ),
            format!(
                "curl --cacert {ca} -H \"Authorization: PROV-ADMIN $(cat {data}/admin.key)\" {admin}/admin/api/devices"
            ),
            format!("curl --cacert {ca} {devices}/.well-known/est/cacerts"),
            String::new(),
            "Stop with Ctrl-C.".into(),
        ]
    }

    /// Ends everything.
    pub(super) async fn leave(self) {
        for daemon in self.daemons {
            daemon.stop(Duration::from_secs(1)).await;
        }
        self.house.drain().await;
        self.tasks.end();
        self.tasks.wait(Duration::from_secs(2)).await;
    }

    async fn enrol_devices(&mut self) -> anyhow::Result<()> {
        let web = |address: SocketAddr| format!("http://{address}");
        let cast: [(&str, Vec<(&str, String)>); 3] = [
            ("cam-01", vec![("web", web(services::web("cam-01", &self.tasks).await?))]),
            (
                "gate-02",
                vec![
                    ("web", web(services::web("gate-02", &self.tasks).await?)),
                    ("ws", web(services::websocket_echo(&self.tasks).await?)),
                ],
            ),
            (
                "pi-03",
                vec![
                    ("web", web(services::web("pi-03", &self.tasks).await?)),
                    ("shell", format!("tcp://{}", services::greeting_echo(&self.tasks).await?)),
                ],
            ),
        ];
        for (device, services) in cast {
            let id: DeviceId = device.parse()?;
            let known = format!("/admin/api/devices/{device}");
            if self.admin(Method::GET, &known, Value::Null).await.is_ok() {
                // Of an earlier demo, whose people have gone with its sign-in provider.
                self.admin(Method::DELETE, &known, Value::Null).await?;
            }
            let made =
                self.admin(Method::POST, "/admin/api/otp", json!({"device": device, "ttl": "10m"})).await?;
            let enrolment: EnrolmentString =
                made["enroll"].as_str().context("the passcode's answer has no enrolment string")?.parse()?;
            let state = self.data.join("devices").join(device);
            if state.exists() {
                std::fs::remove_dir_all(&state)?;
            }
            let state = StateDirectory::at(state);
            let request = EnrollRequest {
                server: enrolment.server,
                ca: enrolment.ca,
                passcode: enrolment.passcode,
                device: Some(id),
                suggestion: None,
                state: state.clone(),
                way_out: WayOut::default(),
            };
            let time = TrustedTime::new(Clock::system(), build_time());
            tcpmux_client::enroll(&request, &time).await?;
            let specs: Vec<ServiceSpec> = services.iter().map(|(name, to)| exposed(name, to)).collect();
            let mut config = DaemonConfig::new(state, Services::new(&specs, false, None)?);
            if device == "cam-01" {
                config.local_api = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            }
            let daemon = Daemon::start(config, Clock::system(), Tasks::new()).await?;
            self.local_api = self.local_api.or(daemon.local_api());
            self.daemons.push(daemon);
            self.until_online(device, true).await?;
            let names: Vec<&str> = services.iter().map(|(name, _)| *name).collect();
            self.ok(device, &format!("enrolled by passcode, online, serves {}", names.join(", ")));
        }
        Ok(())
    }

    pub(super) fn ok(&self, what: &str, said: &str) {
        say(format!("  ok  {what:<12} {said}"));
    }
}

fn exposed(name: &str, to: &str) -> ServiceSpec {
    ServiceSpec { name: name.into(), to: to.into(), viewer_websocket: false, certificate: None, host: None }
}

/// The cloud's settings: loopback, the usual ports where they are free, the demo's provider.
async fn settings(provider: &Provider) -> String {
    format!(
        "[listen]\nuser = \"{}\"\ndevice = \"{}\"\nadmin = \"{}\"\n[[oidc]]\nissuer = \"{}\"\naudience = \"{}\"\ntenant = \"default\"\n[drain]\ngrace = \"2s\"\n",
        free(8443).await,
        free(7443).await,
        free(9443).await,
        provider.issuer(),
        provider::AUDIENCE,
    )
}

/// The usual port on loopback, or any if somebody has it.
async fn free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if runtime::listen::bind(usual).await.is_ok() { usual } else { SocketAddr::from(([127, 0, 0, 1], 0)) }
}
