use std::sync::{
    Mutex as StdMutex,
    atomic::{AtomicUsize, Ordering},
};

use model::Timestamp;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::jose::{SigningKey, TypRule};

/// A sign-in provider on loopback that counts its calls and answers what it is told to.
#[derive(Clone)]
struct Provider {
    issuer: String,
    answers: Arc<StdMutex<Answers>>,
    calls: Arc<AtomicUsize>,
}

struct Answers {
    discovery: String,
    jwks: String,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}).to_string();
        let answers = Answers { discovery: ok(&discovery), jwks: ok("{}") };
        let provider = Self { issuer, answers: Arc::new(StdMutex::new(answers)), calls: Arc::default() };
        let (answers, calls) = (Arc::clone(&provider.answers), Arc::clone(&provider.calls));
        Tasks::new().spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap_or(0) > 0 {}
                calls.fetch_add(1, Ordering::SeqCst);
                let answer = {
                    let answers = answers.lock().unwrap();
                    let is_discovery =
                        head.starts_with(b"GET /.well-known/openid-configuration HTTP/1.1\r\n");
                    if is_discovery { answers.discovery.clone() } else { answers.jwks.clone() }
                };
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        provider
    }

    fn publishes(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
        self.answers.lock().unwrap().jwks = ok(&json!({ "keys": keys }).to_string());
    }

    fn answers_jwks(&self, answer: String) {
        self.answers.lock().unwrap().jwks = answer;
    }

    fn answers_discovery(&self, answer: String) {
        self.answers.lock().unwrap().discovery = answer;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn keys(&self) -> Arc<RemoteKeySet> {
        RemoteKeySet::new(&self.issuer, KeySource::Discovery, KeyFetcher::new(None).unwrap()).unwrap()
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn token(issuer: &str, key: &SigningKey) -> String {
    let body = json!({"iss": issuer, "sub": "alice", "aud": "tcpmux", "exp": NOW.secs() + 60});
    key.sign("JWT", &body).unwrap()
}

async fn check(keys: &RemoteKeySet, token: &str) -> Result<TokenBody, TokenError> {
    let expected = Expectations {
        issuer: keys.issuer(),
        audience: "tcpmux",
        typ: TypRule::Provider,
        now: NOW,
        leeway: Duration::ZERO,
    };
    keys.verify(&UnverifiedToken::read(token)?, &expected).await
}

/// Moves tokio's clock without making it auto-advance while sockets are waited for.
async fn ten_seconds_pass() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_a_rotation_is_followed() {
    let (first, second) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let provider = Provider::start().await;
    provider.publishes(&[&first]);
    let keys = provider.keys();
    keys.refresh().await.unwrap();
    assert!(check(&keys, &token(&provider.issuer, &first)).await.is_ok());

    provider.publishes(&[&second]);
    // At once: the routine's own fetches do not stand in the way of a rotation.
    assert!(check(&keys, &token(&provider.issuer, &second)).await.is_ok());
    assert_eq!(check(&keys, &token(&provider.issuer, &first)).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn unknown_keys_make_one_fetch_in_ten_seconds_however_many_come() {
    let (known, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let provider = Provider::start().await;
    provider.publishes(&[&known]);
    let keys = provider.keys();
    keys.refresh().await.unwrap();
    ten_seconds_pass().await;
    let before = provider.calls();
    let token = token(&provider.issuer, &other);
    let outcomes = futures(200, || check(&keys, &token)).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Err(TokenError::UnknownKey)));
    assert_eq!(provider.calls() - before, 2, "one fetch: discovery and keys");
    ten_seconds_pass().await;
    assert_eq!(check(&keys, &token).await, Err(TokenError::UnknownKey));
    assert_eq!(provider.calls() - before, 4, "control: ten seconds later there is another");
}

async fn futures<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut outcomes = Vec::new();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(outcome) => {
                outcomes.push(outcome);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outcomes
}

#[tokio::test]
async fn other_failures_than_an_unknown_key_fetch_nothing() {
    let key = SigningKey::generate().unwrap();
    let provider = Provider::start().await;
    provider.publishes(&[&key]);
    let keys = provider.keys();
    keys.refresh().await.unwrap();
    ten_seconds_pass().await;
    let before = provider.calls();
    let good = token(&provider.issuer, &key);
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    assert_eq!(check(&keys, &forged).await, Err(TokenError::Signature));
    assert_eq!(check(&keys, &token("https://other.example", &key)).await, Err(TokenError::Issuer));
    assert_eq!(provider.calls(), before);
}

#[tokio::test]
async fn the_last_good_keys_stand_while_the_provider_fails() {
    let key = SigningKey::generate().unwrap();
    let provider = Provider::start().await;
    provider.publishes(&[&key]);
    let keys = provider.keys();
    keys.refresh().await.unwrap();
    let elsewhere = provider.keys();
    for answer in [
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
        String::new(),
        ok("<html>"),
        ok(r#"{"keys":[]}"#),
        ok(&format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(300 * 1024))),
    ] {
        provider.answers_jwks(answer.clone());
        assert!(keys.refresh().await.is_err(), "{answer:.60}");
        assert!(elsewhere.refresh().await.is_err());
        assert!(check(&keys, &token(&provider.issuer, &key)).await.is_ok(), "{answer:.60}");
        let never_loaded = check(&elsewhere, &token(&provider.issuer, &key)).await;
        assert_eq!(never_loaded, Err(TokenError::KeysUnavailable), "control");
    }
}

#[tokio::test]
async fn a_start_without_the_provider_heals_by_itself() {
    let key = SigningKey::generate().unwrap();
    let provider = Provider::start().await;
    provider.answers_discovery(String::new());
    let keys = provider.keys();
    assert_eq!(check(&keys, &token(&provider.issuer, &key)).await, Err(TokenError::KeysUnavailable));
    assert_eq!(TokenError::KeysUnavailable.refusal().http_status(), 503);

    let healthy = json!({"issuer": provider.issuer, "jwks_uri": format!("{}/keys", provider.issuer)});
    provider.answers_discovery(ok(&healthy.to_string()));
    provider.publishes(&[&key]);
    let tasks = Tasks::new();
    keys.keep_fresh(&tasks);
    let loaded = async {
        while !keys.is_loaded() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), loaded)
        .await
        .expect("the keys are fetched in the background");
    assert!(check(&keys, &token(&provider.issuer, &key)).await.is_ok());
    tasks.end();
}

#[tokio::test]
async fn a_discovery_document_speaks_for_its_own_issuer_alone() {
    let key = SigningKey::generate().unwrap();
    let provider = Provider::start().await;
    provider.publishes(&[&key]);
    let jwks = format!("{}/keys", provider.issuer);
    for document in [
        json!({"issuer": format!("{}/", provider.issuer), "jwks_uri": jwks}),
        json!({"issuer": "https://login.example.com", "jwks_uri": jwks}),
        json!({"jwks_uri": jwks}),
        json!({"issuer": provider.issuer}),
        json!({"issuer": provider.issuer, "jwks_uri": "http://169.254.169.254/keys"}),
        json!({"issuer": provider.issuer, "jwks_uri": "file:///etc/passwd"}),
    ] {
        provider.answers_discovery(ok(&document.to_string()));
        assert!(provider.keys().refresh().await.is_err(), "{document}");
    }
}

#[tokio::test]
async fn a_plain_jwks_address_needs_no_discovery() {
    let key = SigningKey::generate().unwrap();
    let provider = Provider::start().await;
    provider.answers_discovery(String::new());
    provider.publishes(&[&key]);
    let source = KeySource::Jwks(format!("{}/keys", provider.issuer));
    let keys =
        RemoteKeySet::new("https://authz.example.com", source, KeyFetcher::new(None).unwrap()).unwrap();
    keys.refresh().await.unwrap();
    assert!(check(&keys, &token("https://authz.example.com", &key)).await.is_ok());
    assert_eq!(provider.calls(), 1);
}

#[test]
fn an_issuer_is_https_or_loopback() {
    let make = |issuer: &str| RemoteKeySet::new(issuer, KeySource::Discovery, KeyFetcher::new(None).unwrap());
    assert!(make("https://login.example.com/realms/a").is_ok(), "control");
    for bad in
        ["http://login.example.com", "https://login.example.com?x=1", "https://u:p@example.com", "login", ""]
    {
        assert!(matches!(make(bad), Err(RemoteKeySetError::Issuer(_))), "{bad}");
    }
}
