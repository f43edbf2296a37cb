use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Gives one answer after the other, the last one for ever.
#[derive(Debug)]
struct Scripted {
    answers: Mutex<Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[SocketAddr]]) -> Arc<Self> {
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        Box::pin(async move { Ok(answer.unwrap_or_default()) })
    }
}

fn outbound(allow: &[&str], resolver: Arc<dyn Resolver>) -> Outbound {
    let networks = allow.iter().map(|network| network.parse().unwrap());
    Outbound::new(HttpClient::loopback_only(), Destinations::allowing(networks), resolver)
}

fn post() -> Request<Full<Bytes>> {
    Request::post("/").body(Full::from("{}")).unwrap()
}

/// A server that gives every connection this answer, and counts them.
async fn server(listener: TcpListener, answer: String, came: Arc<AtomicUsize>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        came.fetch_add(1, Ordering::SeqCst);
        let mut head = [0; 4096];
        assert!(socket.read(&mut head).await.unwrap() > 0);
        // Whoever has read enough goes away.
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_special_address_is_refused_and_nothing_is_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inside = listener.local_addr().unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let answer = "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
    let calls = async {
        let public: SocketAddr = "1.1.1.1:443".parse().unwrap();
        for addresses in [
            vec![inside],
            vec![public, inside],
            vec!["10.0.0.1:443".parse().unwrap()],
            vec!["169.254.169.254:443".parse().unwrap()],
            vec!["100.64.0.1:443".parse().unwrap()],
            vec!["[::1]:443".parse().unwrap()],
            vec!["[::ffff:127.0.0.1]:443".parse().unwrap()],
            vec!["[64:ff9b::7f00:1]:443".parse().unwrap()],
            vec!["[fe80::1]:443".parse().unwrap()],
            vec!["[fd00:ec2::254]:443".parse().unwrap()],
            vec!["[ff02::1]:443".parse().unwrap()],
            vec!["0.0.0.0:443".parse().unwrap()],
        ] {
            let outbound = outbound(&[], Scripted::new(&[&addresses]));
            let error = outbound.send("https://evil.example/", post()).await.unwrap_err();
            let is_refused = matches!(error, OutboundError::Destination(DestinationError::NotPublic(_)));
            assert!(is_refused, "{addresses:?}: {error}");
        }
        assert_eq!(came.load(Ordering::SeqCst), 0);
        let url = format!("http://localhost:{}/", inside.port());
        let allowed = outbound(&["127.0.0.1/32"], Scripted::new(&[&[inside]]));
        assert_eq!(allowed.send(&url, post()).await.unwrap().status, 204, "control");
        assert_eq!(came.load(Ordering::SeqCst), 1, "control");
    };
    tokio::select! { () = server(listener, answer, Arc::clone(&came)) => {}, () = calls => {} }
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_looked_at_whatever_the_name_says_next() {
    let looked_at = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = looked_at.local_addr().unwrap();
    let other = TcpListener::bind(("127.0.0.1", address.port())).await.unwrap();
    let elsewhere = other.local_addr().unwrap();
    let (right, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
    let calls = async {
        let resolver = Scripted::new(&[&[address], &[elsewhere]]);
        let outbound = outbound(&["127.0.0.0/30"], resolver.clone());
        let url = format!("http://localhost:{}/", address.port());
        assert_eq!(outbound.send(&url, post()).await.unwrap().status, 200);
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "resolved once");
        assert_eq!((right.load(Ordering::SeqCst), wrong.load(Ordering::SeqCst)), (1, 0));
        assert_eq!(outbound.send(&url, post()).await.unwrap().status, 200);
        assert_eq!((right.load(Ordering::SeqCst), wrong.load(Ordering::SeqCst)), (1, 1), "control");
    };
    let (first, second) = (Arc::clone(&right), Arc::clone(&wrong));
    tokio::select! {
        () = server(looked_at, answer.clone(), first) => {}
        () = server(other, answer, second) => {}
        () = calls => {}
    }
}

#[tokio::test]
async fn redirects_are_answers_and_long_bodies_are_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let body = "x".repeat(1024 * 1024);
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{address}/again\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let calls = async {
        let url = format!("http://{address}/");
        let parts = outbound(&["127.0.0.0/8"], Arc::new(SystemResolver)).send(&url, post()).await.unwrap();
        assert_eq!(parts.status, 307);
        assert_eq!(came.load(Ordering::SeqCst), 1, "not followed");
    };
    tokio::select! { () = server(listener, answer, Arc::clone(&came)) => {}, () = calls => {} }
}
