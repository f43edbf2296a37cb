use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::Request;
use model::{DeviceRef, NodeId, Target, TenantName, UserId};
use registry::{GrantChange, Registry};
use runtime::{
    Clock,
    jose::{KeySet, SigningKey},
};
use serde_json::json;

use super::*;
use crate::{
    Issuer, IssuerKeys, IssuerRule,
    admit::{Admission, LeaseEnd},
    lease,
    target::{self},
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const USER: &str = "usr_0123456789abcdef0123456789abcdef";
const VISITING: (&str, &str) = ("cookie", "__Host-tcpmux-visit=v");

/// Logins as a test wants them.
struct Logins {
    key: SigningKey,
    asked: AtomicUsize,
    ended: AtomicU64,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    SignedIn { sequence: u64 },
    SignedOut,
    Away,
}

impl Visitors for Logins {
    fn redeem<'a>(&'a self, code: &'a str, label: &'a str, binding: &'a str) -> VisitorFuture<'a, Welcome> {
        let is_right =
            code == "c" && label == "cam-01" && binding == model::hex(&sha256("a".repeat(64).as_bytes()));
        let welcome = is_right.then(|| Welcome {
            visit: Secret::new("v".into()),
            path: "//x?y".into(),
            life: Duration::from_secs(60),
        });
        Box::pin(std::future::ready(Ok(welcome)))
    }

    fn token<'a>(&'a self, visit: &'a str, label: &'a str) -> VisitorFuture<'a, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let is_visit = visit == "v" && label == "cam-01";
        let answer = match *self.state.lock().unwrap() {
            State::SignedIn { sequence } if is_visit => Ok(Some(
                self.key
                    .sign(
                        "at+jwt",
                        &json!({
                            "iss": "us", "aud": "tcpmux:proxy", "sub": USER, "tenant": "default", "gv": sequence,
                            "until": NOW.secs() + 7200, "iat": NOW.secs(), "exp": NOW.secs() + 300, "jti": "1",
                            "devices": {"cam-01": {"level": "viewer"}},
                        }),
                    )
                    .unwrap(),
            )),
            State::Away => Err(Refusal::new(Code::Unavailable, "away")),
            _ => Ok(None),
        };
        Box::pin(std::future::ready(answer))
    }

    fn goes_on<'a>(&'a self, visit: &'a str, label: &'a str) -> VisitorFuture<'a, ()> {
        Box::pin(async move { Ok(self.token(visit, label).await?.map(|_| ())) })
    }

    fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }
}

struct Case {
    logins: Arc<Logins>,
    browsers: Browsers,
    hosts: Hosts,
    tokens: Tokens,
    grants: GrantView,
}

impl Case {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let keys = IssuerKeys::Held(Arc::new(KeySet::new(vec![key.verifying_key()])));
        let tokens = Tokens::new(vec![Issuer { name: "us".into(), keys, rule: IssuerRule::Authorizer }]);
        let state = Mutex::new(State::SignedIn { sequence: 5 });
        let logins = Arc::new(Logins { key, asked: AtomicUsize::new(0), ended: AtomicU64::new(0), state });
        let visitors = Arc::clone(&logins) as Arc<dyn Visitors>;
        let browsers = Browsers::new(SignIn { handover: "https://cloud.example/handover".into(), visitors });
        let hosts = Hosts { cloud: vec![], device_domain: Some("dev.example".into()) };
        Self { logins, browsers, hosts, tokens, grants: GrantView::default() }
    }

    fn set(&self, state: State) {
        *self.logins.state.lock().unwrap() = state;
    }

    fn asked(&self) -> usize {
        self.logins.asked.load(Ordering::SeqCst)
    }

    async fn get(
        &self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        after: u64,
    ) -> Result<Received, Refusal> {
        let mut request = Request::get(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let asked = target::read(&self.hosts, &parts).unwrap();
        let now = NOW.plus(Duration::from_secs(after));
        let present = Present { hosts: &self.hosts, tokens: &self.tokens, grants: &self.grants, now };
        self.browsers.receive(&asked, &parts, Exchange::Plain, &present).await
    }

    async fn is_known(&self, after: u64) -> bool {
        matches!(self.get("cam-01.dev.example", "/", &[VISITING], after).await, Ok(Received::Known(..)))
    }

    async fn visit(&self) -> OpenVisit {
        match self.get("cam-01.dev.example", "/", &[VISITING], 0).await {
            Ok(Received::Known(_, visit)) => visit,
            _ => panic!("not let in"),
        }
    }

    async fn sent(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        match self.get(host, path, headers, 0).await {
            Ok(Received::Answered(response)) => response,
            Ok(Received::Known(..)) => panic!("let in"),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

#[tokio::test]
async fn a_visit_is_asked_about_once_a_minute_and_after_every_end() {
    let case = Case::new();
    assert!(case.is_known(0).await && case.is_known(59).await);
    assert_eq!(case.asked(), 1);
    assert!(case.is_known(60).await);
    assert_eq!(case.asked(), 2);
    case.set(State::SignedOut);
    assert!(case.is_known(61).await, "control: nobody said that anything ended");
    case.logins.ended.fetch_add(1, Ordering::SeqCst);
    assert!(!case.is_known(61).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_opened_with_a_visit_ends_with_it_and_not_while_nobody_can_tell() {
    let case = Case::new();
    let node = NodeId::from_random([1; 16]);
    let registry = Registry::in_process(node, 1);
    let (clock, _) = Clock::manual(NOW);
    let target = Target {
        device: DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap()),
        service: "web".parse().unwrap(),
    };
    let lease = Admission::published(target).lease.while_visiting(Some(case.visit().await));
    let ends_within = async |seconds| {
        let ended = lease::ended(&lease, &registry, &clock);
        tokio::time::timeout(Duration::from_secs(seconds), ended).await
    };
    assert!(ends_within(3600).await.is_err(), "control: signed in");
    case.set(State::Away);
    assert!(ends_within(3600).await.is_err(), "nobody can tell");
    case.set(State::SignedOut);
    assert_eq!(ends_within(10).await, Ok(LeaseEnd::SignedOut));
}

#[tokio::test]
async fn a_changed_grant_is_asked_about_at_once() {
    let case = Case::new();
    assert!(case.is_known(0).await);
    let user: UserId = USER.parse().unwrap();
    case.grants.put(GrantChange {
        tenant: TenantName::default(),
        user: Some(user),
        device: "cam-01".parse().unwrap(),
        sequence: 6,
        at: NOW,
    });
    case.set(State::SignedIn { sequence: 6 });
    assert!(case.is_known(1).await && case.is_known(2).await);
    assert_eq!(case.asked(), 2);
}

#[tokio::test]
async fn while_nobody_can_tell_a_known_visit_holds_to_the_end_of_its_token() {
    let case = Case::new();
    assert!(case.is_known(0).await);
    case.set(State::Away);
    assert!(case.is_known(299).await);
    assert!(!case.is_known(300).await);
    let stranger = [("cookie", "__Host-tcpmux-visit=w")];
    let refused = case.get("cam-01.dev.example", "/", &stranger, 0).await;
    assert_eq!(refused.err().map(|refusal| refusal.http_status()), Some(503));
}

#[tokio::test]
async fn a_visit_of_one_host_is_nothing_at_another() {
    let case = Case::new();
    assert!(case.is_known(0).await, "control");
    for host in ["cam-02.dev.example", "api--cam-01.dev.example"] {
        let refused = case.get(host, "/", &[VISITING], 0).await;
        assert_eq!(refused.err().map(|refusal| refusal.http_status()), Some(401), "{host}");
    }
    let twice = [("cookie", "__Host-tcpmux-visit=v; __Host-tcpmux-visit=v")];
    assert!(case.get("cam-01.dev.example", "/", &twice, 0).await.is_err(), "two cookies are nobody's");
}

#[tokio::test]
async fn a_person_is_sent_to_the_cloud_and_a_script_is_told() {
    let case = Case::new();
    let page = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let sent = case.sent("cam-01.dev.example:8443", "/a?b=c&d", &page).await;
    let location = sent.headers()[LOCATION].to_str().unwrap().to_owned();
    assert!(location.starts_with("https://cloud.example/handover?to=cam-01&path=%2Fa%3Fb%3Dc%26d&binding="));
    let cookie = sent.headers()[SET_COOKIE].to_str().unwrap();
    let secret = cookie.strip_prefix("__Host-tcpmux-coming=").unwrap().split(';').next().unwrap();
    assert!(location.ends_with(&model::hex(&sha256(secret.as_bytes()))) && !location.contains(secret));
    let sent = case.sent("web--cam-01.dev.example.", "/a", &page).await;
    assert_eq!(sent.headers()[LOCATION], "https://cam-01.dev.example/a", "one origin for one service");
    for script in [&[("sec-fetch-mode", "cors")][..], &[("accept", "application/json")], &[]] {
        let refused = case.get("cam-01.dev.example", "/", script, 0).await;
        assert_eq!(refused.err().map(|refusal| refusal.code), Some(Code::TokenMissing), "{script:?}");
    }
}

#[tokio::test]
async fn a_code_becomes_a_cookie_only_with_the_browsers_own_secret() {
    let case = Case::new();
    let coming = format!("__Host-tcpmux-coming={}", "a".repeat(64));
    let path = "/.tcpmux/handover?code=c";
    let sent = case.sent("cam-01.dev.example", path, &[("cookie", coming.as_str())]).await;
    assert_eq!(sent.headers()[LOCATION], "https://cam-01.dev.example//x?y", "no path names another host");
    let cookies: Vec<_> =
        sent.headers().get_all(SET_COOKIE).iter().map(|one| one.to_str().unwrap()).collect();
    assert!(cookies[0].starts_with("__Host-tcpmux-visit=v; Path=/; Max-Age=60; Secure; HttpOnly"));
    assert!(cookies[1].starts_with("__Host-tcpmux-coming=; Path=/; Max-Age=0;"));
    let other = format!("__Host-tcpmux-coming={}", "b".repeat(64));
    for (path, cookie) in [
        (path, other.as_str()),
        (path, "x=y"),
        ("/.tcpmux/handover", coming.as_str()),
        ("/.tcpmux/handover?code=d", coming.as_str()),
        ("/.tcpmux/handover?code=c&code=c", coming.as_str()),
    ] {
        let refused = case.get("cam-01.dev.example", path, &[("cookie", cookie)], 0).await;
        assert_eq!(refused.err().map(|refusal| refusal.http_status()), Some(400), "{path} {cookie}");
    }
}
