//! What devices report, in the log once and in order: the cloud dies, retention deletes, what it stands on goes away.

mod crashes;
mod outages;
mod retention;

use serde_json::{Value, json};
use tests::{Cloud, Door, EnrolledDevice, run_ok};

/// A device that reports by itself, without the daemon.
struct Reporter {
    id: String,
    door: Door,
}

impl Reporter {
    async fn enrol(cloud: &Cloud, id: &str) -> Self {
        let device = EnrolledDevice::enrol(cloud, id).await;
        Self { id: id.to_owned(), door: cloud.device().showing(&device.identity()) }
    }

    fn call(&self, kind: &str, numbers: std::ops::Range<u64>) -> tests::Call {
        let items: Vec<Value> = numbers.map(|number| item(kind, number)).collect();
        self.door.post(&format!("/device/v1/{kind}")).json(&Value::Array(items))
    }

    /// What became of the items, which have to be taken as a whole.
    async fn report(&self, kind: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
        statuses(self.call(kind, numbers).send().await.expect(200).await.text().await.as_bytes())
    }
}

fn item(kind: &str, number: u64) -> Value {
    let (id, data) = (format!("{kind}-{number}"), json!({"n": number}));
    if kind == "telemetry" {
        json!({"id": id, "data": data})
    } else {
        json!({"id": id, "type": "count", "title": "A number", "data": data})
    }
}

fn statuses(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let results = body["results"].as_array().unwrap_or_else(|| panic!("{body}"));
    results.iter().map(|result| result["status"].as_str().unwrap().to_owned()).collect()
}

#[expect(clippy::print_stdout, reason = "figures are read by people")]
fn say(figures: &str) {
    println!("{figures}");
}

/// The numbers that a device reported, in the order of the log.
async fn logged(cloud: &Cloud, device: &str) -> Vec<u64> {
    let script = "import json, sqlite3, sys\n\
        rows = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True).execute(\
        \"SELECT data FROM events WHERE device = ? AND subject IN ('telemetry', 'notification') ORDER BY seq\",\
        (sys.argv[2],))\n\
        told = [json.loads(row[0]) for row in rows]\n\
        print(json.dumps([one['n'] if 'n' in one else one['data']['n'] for one in told]))\n";
    let database = cloud.data().join("tcpmux.db").display().to_string();
    serde_json::from_str(&run_ok("python3", ["-c", script, &database, device], b"").await).unwrap()
}
