//! Programs on a device report to their cloud, whatever dies in between.

use std::{net::SocketAddr, process::Command, time::Duration};

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, EnrolledDevice, Process, client_program, eventually_within, run, run_ok};

/// A daemon with a local API, which the usual ones of these tests do not have.
struct Reporter {
    device: EnrolledDevice,
    address: SocketAddr,
    process: Process,
}

impl Reporter {
    async fn start(cloud: &Cloud, id: &str) -> Self {
        let device = EnrolledDevice::enrol(cloud, id).await;
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Self::process(&device, address);
        let reporter = Self { device, address, process };
        reporter.until_it_answers().await;
        reporter
    }

    fn process(device: &EnrolledDevice, address: SocketAddr) -> Process {
        let file = device.state().join("client.toml");
        std::fs::write(&file, format!("local_api = \"{address}\"\n")).unwrap();
        let mut command = Command::new(client_program());
        command.args(["run", "--config"]).arg(file).arg("--state").arg(device.state());
        Process::start(device.id(), command)
    }

    async fn start_again(&mut self) {
        self.process.kill();
        self.process = Self::process(&self.device, self.address);
        self.until_it_answers().await;
    }

    async fn until_it_answers(&self) {
        let url = format!("http://{}/v1/status", self.address);
        eventually_within(Duration::from_secs(30), "the local API answers", || async {
            let asked = run("curl", ["-sS", "--max-time", "5", &url], b"").await;
            if asked.code == 0 { Ok(()) } else { Err(asked.stderr) }
        })
        .await;
    }

    /// What curl is answered: the status.
    async fn report(&self, path: &str, body: &Value) -> String {
        let url = format!("http://{}{path}", self.address);
        let words = [
            "-sS",
            "--max-time",
            "20",
            "-o",
            "/dev/stderr",
            "-w",
            "%{http_code}",
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            "@-",
            &url,
        ];
        run_ok("curl", words, body.to_string().as_bytes()).await
    }

    async fn report_numbers(&self, numbers: std::ops::RangeInclusive<u32>) {
        for number in numbers {
            let body = json!({"id": format!("item-{number}"), "data": {"n": number}});
            assert_eq!(self.report("/v1/telemetry", &body).await, "202");
        }
    }
}

/// The telemetry in the log, in its order.
async fn logged(cloud: &Cloud) -> Vec<u32> {
    let script = "import json, sqlite3, sys\n\
        rows = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True).execute(\
        \"SELECT data FROM events WHERE subject = 'telemetry' ORDER BY seq\")\n\
        print(json.dumps([json.loads(row[0])['n'] for row in rows]))\n";
    let database = cloud.data().join("tcpmux.db").display().to_string();
    serde_json::from_str(&run_ok("python3", ["-c", script, &database], b"").await).unwrap()
}

async fn until_logged(cloud: &Cloud, newest: u32) {
    eventually_within(Duration::from_secs(90), "everything is in the log, once and in order", || async {
        let found = logged(cloud).await;
        if found == (1..=newest).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_a_program_was_promised_reaches_the_log_once_and_in_order_whatever_dies() {
    let mut cloud = Cloud::start().await;
    let mut reporter = Reporter::start(&cloud, "cam-01").await;
    reporter.report_numbers(1..=10).await;
    until_logged(&cloud, 10).await;

    reporter.report_numbers(11..=15).await;
    cloud.kill();
    reporter.report_numbers(16..=25).await;
    cloud.start_again().await;
    until_logged(&cloud, 25).await;

    cloud.kill();
    reporter.report_numbers(26..=30).await;
    reporter.start_again().await;
    reporter.report_numbers(31..=35).await;
    cloud.start_again().await;
    until_logged(&cloud, 35).await;

    reporter.report_numbers(35..=36).await;
    until_logged(&cloud, 36).await;
}

#[tokio::test]
async fn the_device_gateway_takes_devices_alone_and_no_longer_than_their_certificates() {
    let cloud = Cloud::start().await;
    let device = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let door = cloud.device().showing(&device.identity());
    let seen = door.get("/device/v1/self").send().await.expect(200).await.json().await;
    assert_eq!((&seen["id"], &seen["tenant"]), (&json!("cam-01"), &json!("default")));
    let item = json!([{"id": "a", "data": {"n": 1}}, {"data": 7}]);
    let answer = door.post("/device/v1/telemetry").json(&item).send().await.expect(200).await.json().await;
    assert_eq!(answer["results"][0]["status"], "accepted");
    assert_eq!(answer["results"][1]["status"], "rejected");
    let proxy_token = cloud.token("cam-01", "operator").await;
    let refused = cloud.device().get("/device/v1/self").bearer(&proxy_token).send().await;
    assert_eq!(refused.problem().await, "401 TMX-4003", "a proxy token is no device token");
    cloud.administer(Method::DELETE, "/admin/api/devices/cam-01", Value::Null).await;
    door.get("/device/v1/self").send().await.expect(403).await;
}
