//! One line a request, and no secret in it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use http::Request;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    device::{After, Device},
    house::{HOST, House},
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The access lines, parsed.
    fn access(&self) -> Vec<Value> {
        let lines = self.text();
        let parsed = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        parsed.filter(|line| line["target"] == "access").map(|line| line["fields"].clone()).collect()
    }
}

fn capture() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test(start_paused = true)]
async fn every_request_is_one_line_with_its_end() {
    let (lines, _guard) = capture();
    let device = Device::new()
        .says("web", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", After::Stay)
        .says("cut", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", After::Reset);
    let house = House::with(device).await;
    let response = house.send(house.request("POST", "/x").body(Body::from("abc")).unwrap()).await;
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(crate::house::text(response).await, "hello");
    let mut request = house.request("GET", "").body(Body::empty()).unwrap();
    *request.uri_mut() = "/d/cam/cut/".parse().unwrap();
    let response = house.send(request).await;
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err());
    house.send(Request::get("/d/cam/web/").header("host", HOST).body(Body::empty()).unwrap()).await;
    assert!(house.tasks.wait(std::time::Duration::from_secs(1)).await);

    let access = lines.access();
    assert_eq!(access.len(), 3, "{access:#?}");
    let complete = &access[0];
    assert_eq!(complete["request_id"], request_id);
    assert_eq!((&complete["status"], &complete["end"]), (&200.into(), &"complete".into()));
    assert_eq!((&complete["up"], &complete["down"]), (&3.into(), &5.into()));
    assert_eq!((&complete["device"], &complete["service"]), (&"default/cam".into(), &"web".into()));
    assert_eq!(complete["peer"], "192.0.2.7:4711");
    assert_eq!((&access[1]["status"], &access[1]["end"]), (&200.into(), &"broken".into()));
    assert!(access[1]["reason"].is_string());
    assert_eq!(
        (&access[2]["status"], &access[2]["code"], &access[2]["end"]),
        (&401.into(), &"TMX-4001".into(), &"refused".into())
    );
}

#[tokio::test(start_paused = true)]
async fn no_line_holds_a_secret_and_every_line_is_one_line() {
    let (lines, _guard) = capture();
    let house = House::with(Device::new().says(
        "web",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        After::Finish,
    ))
    .await;
    let token = house.token();
    let long = "x".repeat(20_000);
    for uri in [
        "/a?ticket=canary-ticket&access_token=canary-query".to_owned(),
        format!("/{long}"),
        "/%0d%0a%00%1b[31m".into(),
    ] {
        let request = house
            .request("GET", &uri)
            .header("cookie", "s=canary-cookie")
            .header("x-device-authorization", "Basic canary-device")
            .header("user-agent", "a\tb")
            .body(Body::empty())
            .unwrap();
        assert_eq!(house.send(request).await.status(), 200);
    }
    let forged = Request::get("/d/cam/web/")
        .header("host", HOST)
        .header("authorization", "Bearer canary.forged.token");
    assert_eq!(house.send(forged.body(Body::empty()).unwrap()).await.status(), 401);
    let text = lines.text();
    // What other crates log at TRACE is theirs; no default level shows it.
    let ours: Vec<&str> = text
        .lines()
        .filter(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let target = line["target"].as_str().unwrap().to_owned();
            ["access", "cloud_proxy", "runtime", "registry", "tcpmux_proto"]
                .iter()
                .any(|name| target.starts_with(name))
        })
        .collect();
    assert!(ours.len() >= 4);
    for line in ours {
        assert!(!line.contains("canary") && !line.contains(&token[..40]), "{line}");
        assert!(line.len() < 2000, "{line}");
    }
}
