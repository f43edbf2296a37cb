//! What local programs can ask the daemon, on loopback alone.
//!
//! A web page in a browser on this machine is not a local program: any `Origin` is refused, and so is a
//! `Host` that is not loopback (DNS rebinding).

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::ReportKind;
use runtime::{RequestBody, Tasks};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{Services, TrustedTime, intake::take_in, spool::SpoolKeeper, status::Board};

/// What local programs can reach.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) board: Arc<Board>,
    /// Absent if the disk does not take it.
    pub(crate) spool: Option<SpoolKeeper>,
    pub(crate) time: TrustedTime,
}

/// Begins to answer. An address in use is no reason not to serve the cloud: then there is no local API.
pub(crate) async fn start(
    address: SocketAddr,
    local: Local,
    services: &Services,
    tasks: &Tasks,
) -> Option<SocketAddr> {
    let bound = async {
        let listener = runtime::listen::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, bound))
    };
    let (listener, bound) = match bound.await {
        Ok(bound) => bound,
        Err(error) => {
            tracing::warn!(%error, "the local API is off; choose another `local_api` or --no-local-api");
            return None;
        }
    };
    if services.reach(bound) {
        tracing::warn!(%bound, "the local API is off: a service has its address");
        return None;
    }
    tracing::info!(%bound, "local API");
    tasks.spawn(accept(listener, Arc::new(local), tasks.clone()));
    Some(bound)
}

async fn accept(listener: TcpListener, local: Arc<Local>, tasks: Tasks) {
    let (draining, places) = (tasks.draining(), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely; they come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (local, bodies) = (Arc::clone(&local), tasks.clone());
        tasks.spawn(async move {
            let _place = place;
            let service = service_fn(move |request: Request<Incoming>| {
                let (request, local) = (RequestBody::of(request, &bodies), Arc::clone(&local));
                async move { Ok::<_, Infallible>(answer(request, &local).await) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_LIMIT)
                .max_buf_size(LARGEST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            drop(tokio::time::timeout(CONNECTION_LIMIT, serving).await);
        });
    }
}

async fn answer<B>(request: Request<B>, local: &Local) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(refused) = is_local_program(request.headers()) {
        return refused;
    }
    match (request.uri().path(), request.method()) {
        ("/v1/status", &Method::GET) => match serde_json::to_vec(&local.board.status()) {
            Ok(body) => reply(StatusCode::OK, "application/json", body),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the status could not be written\n"),
        },
        ("/v1/telemetry", &Method::POST) => {
            take_in(ReportKind::Telemetry, request, local.spool.as_ref(), &local.time).await
        }
        ("/v1/notifications", &Method::POST) => {
            take_in(ReportKind::Notification, request, local.spool.as_ref(), &local.time).await
        }
        ("/v1/status", _) => wrong_method("GET"),
        ("/v1/telemetry" | "/v1/notifications", _) => wrong_method("POST"),
        _ => plain(StatusCode::NOT_FOUND, "there are /v1/status, /v1/telemetry and /v1/notifications\n"),
    }
}

#[expect(clippy::result_large_err, reason = "the answer is sent as it is")]
fn is_local_program(headers: &HeaderMap) -> Result<(), Response<Full<Bytes>>> {
    let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
    if !matches!(hosts[..], [host] if host.to_str().is_ok_and(is_loopback)) {
        return Err(plain(StatusCode::MISDIRECTED_REQUEST, "this API answers at loopback addresses alone\n"));
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(plain(StatusCode::FORBIDDEN, "web pages cannot use this API\n"));
    }
    Ok(())
}

fn wrong_method(right: &'static str) -> Response<Full<Bytes>> {
    let mut response =
        reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", format!("use {right}\n").into_bytes());
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(right));
    response
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    reply(status, "text/plain", text.into())
}

pub(crate) fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

const MOST_CONNECTIONS: usize = 16;
const READ_LIMIT: Duration = Duration::from_secs(5);
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
const LARGEST_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use http_body_util::BodyExt;
    use model::Timestamp;
    use runtime::Clock;
    use serde_json::Value;

    use super::*;
    use crate::{Status, spool::BatchLimits};

    const NOW: Timestamp = Timestamp::from_secs(1_795_303_719);

    fn local() -> Local {
        let time = TrustedTime::new(Clock::manual(NOW).0, NOW);
        Local { board: Arc::new(Board::sample()), spool: None, time }
    }

    async fn asked(method: &str, path: &str, headers: &[(&str, &str)]) -> StatusCode {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.body(Full::<Bytes>::default()).unwrap(), &local()).await.status()
    }

    #[tokio::test]
    async fn only_local_programs_may_ask_and_only_for_what_there_is() {
        let own = ("host", "127.0.0.1:7480");
        assert_eq!(asked("GET", "/v1/status", &[own]).await, 200);
        for host in ["localhost", "localhost:7480", "[::1]:7480", "127.0.0.1"] {
            assert_eq!(asked("GET", "/v1/status", &[("host", host)]).await, 200, "{host}");
        }
        for host in ["attacker.example", "127.0.0.1.attacker.example:7480", "10.0.0.1", "", "localhost.evil"]
        {
            assert_eq!(asked("GET", "/v1/status", &[("host", host)]).await, 421, "{host}");
        }
        assert_eq!(asked("GET", "/v1/status", &[]).await, 421);
        assert_eq!(asked("GET", "/v1/status", &[own, ("host", "localhost")]).await, 421);
        assert_eq!(asked("GET", "/v1/status", &[own, ("origin", "http://127.0.0.1:7480")]).await, 403);
        assert_eq!(asked("GET", "/v1/status", &[own, ("origin", "null")]).await, 403);
        assert_eq!(asked("POST", "/v1/status", &[own]).await, 405);
        assert_eq!(asked("GET", "/", &[own]).await, 404);
    }

    #[tokio::test]
    async fn the_status_is_json_that_the_command_reads() {
        let tasks = Tasks::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let address = start(any, local(), &Services::default(), &tasks).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("no-store"), "{head}");
        let status: Status = serde_json::from_str(body).unwrap();
        assert_eq!(status.device.unwrap().as_str(), "cam-01");
        assert!(!status.connected && status.certificate.next_renewal.is_some());
        tasks.end();
    }

    #[tokio::test]
    async fn a_report_that_is_far_too_large_hears_so_after_it_was_sent() {
        let tasks = Tasks::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let address = start(any, local(), &Services::default(), &tasks).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        // More than the system's buffers hold.
        let body = vec![b' '; 7 << 20];
        let head = format!(
            "POST /v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        tasks.end();
    }

    #[tokio::test]
    async fn an_address_in_use_or_one_of_a_service_turns_it_off() {
        let tasks = Tasks::new();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(start(address, local(), &Services::default(), &tasks).await, None);
        drop(taken);
        let target = format!("web=http://{address}").parse().unwrap();
        let services = Services::new(&[target], false, None).unwrap();
        assert_eq!(start(address, local(), &services, &tasks).await, None);
        assert_eq!(start(address, local(), &Services::default(), &tasks).await, Some(address));
        tasks.end();
    }

    async fn posted(local: &Local, path: &str, kind: &str, body: &str) -> (u16, String) {
        let request = Request::post(path).header("host", "localhost:7480").header("content-type", kind);
        let answer = answer(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap(), local).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_report_is_accepted_when_it_is_on_disk_and_not_otherwise() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let spool = SpoolKeeper::open(folder.path().to_owned(), 4096, &tasks).await.unwrap();
        let local = Local { spool: Some(spool.clone()), ..local() };
        let json = "application/json; charset=utf-8";
        let (status, answer) =
            posted(&local, "/v1/telemetry", json, r#"[{"id":"a","data":{"t":1}},{"data":{}}]"#).await;
        assert_eq!(status, 202, "{answer}");
        let ids: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((ids["ids"][0].as_str(), ids["ids"][1].as_str().map(str::len)), (Some("a"), Some(32)));
        let note = r#"{"type":"door","title":"open"}"#;
        assert_eq!(posted(&local, "/v1/notifications", json, note).await.0, 202);
        let kept = spool.peek(BatchLimits { items: 9, bytes: 9999 }).await.unwrap();
        assert_eq!((kept.len(), spool.status().waiting), (2, 3));
        let first: Value = serde_json::from_slice(&kept[0].json).unwrap();
        assert_eq!(first, serde_json::json!({"id": "a", "ts": "2026-11-21T23:28:39.000Z", "data": {"t": 1}}));

        for (path, kind, body, expected) in [
            ("/v1/telemetry", "text/plain", r#"{"data":{}}"#, 415),
            ("/v1/telemetry", "", r#"{"data":{}}"#, 415),
            ("/v1/telemetry", json, "{", 400),
            ("/v1/telemetry", json, r#"{"data":1}"#, 400),
            ("/v1/notifications", json, r#"{"data":{}}"#, 400),
            ("/v1/telemetry", json, &"x".repeat(300_000), 413),
            ("/v1/telemetry", json, &format!(r#"{{"data":{{"x":"{}"}}}}"#, "y".repeat(5000)), 507),
        ] {
            let (status, said) = posted(&local, path, kind, body).await;
            assert_eq!(status, expected, "{path} {kind} {said}");
            assert!(said.len() > 5 && said.ends_with('\n'), "it says why: {said}");
        }
        assert_eq!(spool.status().waiting, 3);
        tasks.end();
    }

    #[tokio::test]
    async fn a_page_in_a_browser_leaves_nothing_and_a_daemon_without_a_disk_says_so() {
        let request = |origin: Option<&str>| {
            let request = Request::post("/v1/telemetry").header("host", "localhost:7480");
            let request = request.header("content-type", "application/json");
            let request =
                origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
            request.body(Full::new(Bytes::from_static(b"{\"data\":{}}"))).unwrap()
        };
        assert_eq!(answer(request(Some("http://localhost:7480")), &local()).await.status(), 403);
        assert_eq!(answer(request(None), &local()).await.status(), 503, "control");
    }
}
