//! What local programs can ask the daemon, on loopback alone.
//!
//! A web page in a browser on this machine is not a local program: any `Origin` is refused, and so is a
//! `Host` that is not loopback (DNS rebinding).

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::Tasks;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{Services, status::Board};

/// Begins to answer. An address in use is no reason not to serve the cloud: then there is no local API.
pub(crate) async fn start(
    address: SocketAddr,
    board: Arc<Board>,
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
    tasks.spawn(accept(listener, board, tasks.clone()));
    Some(bound)
}

async fn accept(listener: TcpListener, board: Arc<Board>, tasks: Tasks) {
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
        let board = Arc::clone(&board);
        tasks.spawn(async move {
            let _place = place;
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&request, &board);
                async move { Ok::<_, Infallible>(answer) }
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

fn answer<B>(request: &Request<B>, board: &Board) -> Response<Full<Bytes>> {
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
    if !matches!(hosts[..], [host] if host.to_str().is_ok_and(is_loopback)) {
        return plain(StatusCode::MISDIRECTED_REQUEST, "this API answers at loopback addresses alone\n");
    }
    if request.headers().contains_key(header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN, "web pages cannot use this API\n");
    }
    match (request.uri().path(), request.method()) {
        ("/v1/status", &Method::GET) => match serde_json::to_vec(&board.status()) {
            Ok(body) => reply(StatusCode::OK, "application/json", body),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the status could not be written\n"),
        },
        ("/v1/status", _) => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET"));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "there is /v1/status\n"),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    reply(status, "text/plain", text.into())
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
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

    use super::*;
    use crate::Status;

    fn board() -> Board {
        Board::sample()
    }

    fn asked(method: &str, path: &str, headers: &[(&str, &str)]) -> StatusCode {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&request.body(()).unwrap(), &board()).status()
    }

    #[test]
    fn only_local_programs_may_ask_and_only_for_what_there_is() {
        let own = ("host", "127.0.0.1:7480");
        assert_eq!(asked("GET", "/v1/status", &[own]), 200);
        for host in ["localhost", "localhost:7480", "[::1]:7480", "127.0.0.1"] {
            assert_eq!(asked("GET", "/v1/status", &[("host", host)]), 200, "{host}");
        }
        for host in ["attacker.example", "127.0.0.1.attacker.example:7480", "10.0.0.1", "", "localhost.evil"]
        {
            assert_eq!(asked("GET", "/v1/status", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(asked("GET", "/v1/status", &[]), 421);
        assert_eq!(asked("GET", "/v1/status", &[own, ("host", "localhost")]), 421);
        assert_eq!(asked("GET", "/v1/status", &[own, ("origin", "http://127.0.0.1:7480")]), 403);
        assert_eq!(asked("GET", "/v1/status", &[own, ("origin", "null")]), 403);
        assert_eq!(asked("POST", "/v1/status", &[own]), 405);
        assert_eq!(asked("GET", "/", &[own]), 404);
    }

    #[tokio::test]
    async fn the_status_is_json_that_the_command_reads() {
        let tasks = Tasks::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let address = start(any, Arc::new(board()), &Services::default(), &tasks).await.unwrap();
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
    async fn an_address_in_use_or_one_of_a_service_turns_it_off() {
        let tasks = Tasks::new();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(start(address, Arc::new(board()), &Services::default(), &tasks).await, None);
        drop(taken);
        let target = format!("web=http://{address}").parse().unwrap();
        let services = Services::new(&[target], false, None).unwrap();
        assert_eq!(start(address, Arc::new(board()), &services, &tasks).await, None);
        assert_eq!(start(address, Arc::new(board()), &Services::default(), &tasks).await, Some(address));
        tasks.end();
    }
}
