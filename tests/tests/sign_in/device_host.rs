//! A signed-in browser at a device's own host.

use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tests::{Browser, Cloud, Device, Page, Provider, Service};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use url::Url;

use super::scene::{CLOUD, LOGIN, ask, browser, cloud, sign_in};

const HOST: &str = "cam-01.devices.example";
const VISIT: &str = "__Host-tcpmux-visit";

/// A cloud, two devices that say back what they are asked, and alice, who may operate the first.
struct Scene {
    provider: Provider,
    cloud: Cloud,
    alice: String,
    mirror: Service,
    _web: Service,
    _devices: [Device; 2],
}

impl Scene {
    async fn set() -> Self {
        let provider = Provider::start().await;
        let cloud = cloud(&provider).await;
        let mirror = Service::mirror().await;
        let web = tests::web().await;
        let services =
            [("web", mirror.url("http")), ("api", mirror.url("http")), ("sockets", web.url("http"))];
        let first = Device::enrol_and_run(&cloud, "cam-01", &services).await;
        let second = Device::enrol_and_run(&cloud, "cam-02", &[("web", mirror.url("http"))]).await;
        let alice = cloud.user_id(&provider.token("alice")).await;
        cloud.grant("cam-01", &alice, json!({"level": "operator"})).await;
        Self { provider, cloud, alice, mirror, _web: web, _devices: [first, second] }
    }

    async fn signed_in(&self) -> Browser {
        let mut browser = browser(&self.cloud);
        sign_in(&mut browser, &self.cloud, &self.provider, "alice").await.expect(200);
        browser
    }

    /// Signed in, and at the device's page.
    async fn visiting(&self) -> Browser {
        let mut browser = self.signed_in().await;
        browser.open(&self.url(HOST, "/")).await.expect(200);
        browser
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.cloud.user().address().port())
    }

    /// As a script of the page at this host would ask.
    async fn script(&self, browser: &mut Browser, method: Method, host: &str, path: &str) -> Page {
        let origin = self.url(host, "");
        let url = Url::parse(&self.url(host, path)).unwrap();
        let headers =
            [("origin", origin.as_str()), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
        browser.call(method, &url, &headers, "").await
    }

    /// The way of a browser to a device's host, as far as the address with the code.
    async fn coming(&self, browser: &mut Browser, host: &str) -> Url {
        let sent = browser.visit(&self.url(host, "/")).await.expect(303);
        let handed = browser.visit(sent.location().unwrap().as_str()).await.expect(303);
        handed.location().unwrap()
    }
}

#[tokio::test]
async fn a_signed_in_browser_opens_a_device_and_the_device_sees_nothing_of_ours() {
    let scene = Scene::set().await;
    let mut browser = scene.signed_in().await;
    let page = browser.open(&scene.url(HOST, "/panel/%2F..?a=b&next=//evil.example")).await.expect(200);
    assert_eq!(page.url.host_str(), Some(HOST));
    assert!(page.text.starts_with("GET /panel/%2F..?a=b&next=//evil.example HTTP/1.1"), "{}", page.text);
    let lower = page.text.to_ascii_lowercase();
    assert!(
        lower.contains(&format!("x-tcpmux-user: {}", scene.alice))
            && lower.contains("x-tcpmux-level: operator")
    );
    assert!(!lower.contains("__host-tcpmux") && !lower.contains("authorization"), "{}", page.text);
    assert!(browser.cookie(HOST, LOGIN).is_none() && browser.cookie(CLOUD, VISIT).is_none());
    let visit = browser.cookie(HOST, VISIT).unwrap().to_owned();
    assert!(
        !visit.contains('.') && !scene.cloud.log().contains(&visit),
        "no token, and nothing of it in the log"
    );
    scene.script(&mut browser, Method::POST, HOST, "/act").await.expect(200);
    let seen = scene.mirror.seen().join("");
    assert!(seen.contains("POST /act") && !seen.contains(&visit));
    let api = format!("api--{HOST}");
    browser.open(&scene.url(&api, "/v1/me")).await.expect(200);
    assert_ne!(
        browser.cookie(&api, VISIT),
        Some(visit.as_str()),
        "each service has an origin and a cookie of its own"
    );
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_asked_to_and_then_arrives() {
    let scene = Scene::set().await;
    let mut browser = browser(&scene.cloud);
    let page = browser.open(&scene.url(HOST, "/panel?x=1")).await.expect(200);
    assert_eq!(page.url.path(), "/login");
    let begin = page.text.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let begun = browser.visit(page.url.join(&begin).unwrap().as_str()).await.expect(303);
    let asked = super::scene::Asked { url: begun.location().unwrap() };
    asked.answer_with(&scene.provider, "code", &asked.identity(&scene.provider, "alice"));
    let page = browser.open(asked.back(&scene.provider, "code").as_str()).await.expect(200);
    assert!(page.text.starts_with("GET /panel?x=1 "), "{}", page.text);
}

#[tokio::test]
async fn a_code_is_good_once_at_its_host_in_its_browser() {
    let scene = Scene::set().await;
    scene.cloud.grant("cam-02", &scene.alice, json!({"level": "operator"})).await;
    let mut alice = scene.signed_in().await;
    let mut thief = scene.signed_in().await;
    let before = scene.mirror.connections();

    let address = scene.coming(&mut alice, HOST).await;
    scene.coming(&mut thief, HOST).await;
    thief.open(address.as_str()).await.expect(400);
    alice.open(address.as_str()).await.expect(400);

    let address = scene.coming(&mut alice, HOST).await;
    scene.coming(&mut alice, "cam-02.devices.example").await;
    let mut elsewhere = address.clone();
    elsewhere.set_host(Some("cam-02.devices.example")).unwrap();
    alice.open(elsewhere.as_str()).await.expect(400);
    alice.open(address.as_str()).await.expect(400);
    assert_eq!(scene.mirror.connections(), before, "no byte reached a device");

    let address = scene.coming(&mut alice, HOST).await;
    let code = Page::parameter(&address, "code").unwrap();
    for path in ["/d/cam-01/web/", "/v1/me"] {
        scene.cloud.user().get(path).bearer(&code).send().await.expect(401).await;
    }
    let here = scene.url(HOST, "");
    scene
        .cloud
        .user()
        .get("/")
        .header("host", &here["https://".len()..])
        .bearer(&code)
        .send()
        .await
        .expect(401)
        .await;
    alice.open(address.as_str()).await.expect(200);
    alice.open(address.as_str()).await.expect(400);
}

#[tokio::test]
async fn the_cookie_of_one_device_opens_nothing_else() {
    let scene = Scene::set().await;
    scene.cloud.grant("cam-02", &scene.alice, json!({"level": "operator"})).await;
    let mut browser = scene.visiting().await;
    let visit = browser.cookie(HOST, VISIT).unwrap().to_owned();
    for host in ["cam-02.devices.example", "api--cam-01.devices.example"] {
        browser.put_cookie(host, VISIT, &visit);
        scene.script(&mut browser, Method::GET, host, "/").await.expect(401);
    }
    browser.put_cookie(CLOUD, VISIT, &visit);
    browser.put_cookie(CLOUD, LOGIN, &visit);
    for path in ["/v1/me", "/d/cam-01/web/"] {
        let url = Url::parse(&scene.cloud.user().url(path)).unwrap();
        browser.call(Method::GET, &url, &[("sec-fetch-site", "same-origin")], "").await.expect(401);
        scene.cloud.user().get(path).bearer(&visit).send().await.expect(401).await;
    }
    scene.script(&mut browser, Method::GET, HOST, "/").await.expect(200);
}

#[tokio::test]
async fn pages_of_other_origins_cannot_use_a_visit() {
    let scene = Scene::set().await;
    let mut browser = scene.visiting().await;
    let url = Url::parse(&scene.url(HOST, "/")).unwrap();
    let neighbour = scene.url("cam-02.devices.example", "");
    let before = scene.mirror.connections();
    for (method, headers) in [
        (Method::POST, &[("origin", neighbour.as_str())][..]),
        (Method::POST, &[("sec-fetch-site", "same-site")]),
        (Method::POST, &[]),
        (Method::GET, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]),
        (
            Method::GET,
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        ),
        (Method::GET, &[("origin", "null")]),
    ] {
        let page = browser.call(method, &url, headers, "").await;
        assert_eq!(page.status.as_u16(), 403, "{headers:?}");
    }
    assert_eq!(scene.mirror.connections(), before, "no byte reached the device");
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    browser.call(Method::GET, &url, &link, "").await.expect(200);
}

#[tokio::test]
async fn a_websocket_with_a_visit_needs_the_origin_of_its_page() {
    let scene = Scene::set().await;
    let mut browser = scene.signed_in().await;
    let host = format!("sockets--{HOST}");
    browser.open(&scene.url(&host, "/status/200")).await.expect(200);
    let visit = format!("{VISIT}={}", browser.cookie(&host, VISIT).unwrap());
    for (origin, is_good) in [
        (Some(scene.url(&host, "")), true),
        (Some(scene.url(HOST, "")), false),
        (Some("https://evil.example".into()), false),
        (None, false),
    ] {
        let mut request = scene.url(&host, "/ws").replace("https", "wss").into_client_request().unwrap();
        request.headers_mut().insert("cookie", visit.parse().unwrap());
        if let Some(origin) = &origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let socket = scene.cloud.user().connect().await;
        match tokio_tungstenite::client_async(request, socket).await {
            Ok((mut socket, _)) => {
                assert!(is_good, "{origin:?}");
                socket.send(Message::text("hello")).await.unwrap();
                assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
            }
            Err(error) => assert!(!is_good && error.to_string().contains("403"), "{origin:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn what_was_opened_with_a_visit_ends_with_its_login_and_with_no_other() {
    let scene = Scene::set().await;
    let host = format!("sockets--{HOST}");
    let (authority, origin) = (scene.url(&host, "").replace("https://", ""), scene.url(&host, ""));
    let mut opened = vec![];
    for _ in 0..2 {
        let mut browser = scene.signed_in().await;
        browser.open(&scene.url(&host, "/status/200")).await.expect(200);
        let visit = format!("{VISIT}={}", browser.cookie(&host, VISIT).unwrap());
        let headers = [("host", authority.as_str()), ("origin", &origin), ("cookie", &visit)];
        let socket = scene.cloud.user().websocket("/ws", &headers).await.expect("a visit opens it");
        let download = scene.cloud.user().get("/chunks/1000000000000").header("host", &authority);
        let download = download.header("cookie", &visit).header("sec-fetch-site", "same-origin");
        let mut download = download.send().await.expect(200).await;
        download.next().await.unwrap().unwrap();
        opened.push((browser, socket, download));
    }
    let out = Url::parse(&scene.cloud.user().url("/logout")).unwrap();
    let (browser, socket, download) = &mut opened[0];
    browser.call(Method::POST, &out, &[("sec-fetch-site", "same-origin")], "").await.expect(303);
    let ended = async {
        while let Some(Ok(_)) = socket.next().await {}
        while let Some(Ok(_)) = download.next().await {}
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), ended).await;
    ended.expect("within ten seconds of the sign-out");
    let (_, socket, download) = &mut opened[1];
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"), "control: another login");
    download.next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_visit_follows_the_grant_and_ends_with_the_login() {
    let scene = Scene::set().await;
    let mut browser = scene.visiting().await;
    scene.cloud.grant("cam-01", &scene.alice, json!({"level": "viewer"})).await;
    scene.script(&mut browser, Method::GET, HOST, "/").await.expect(200);
    scene.script(&mut browser, Method::POST, HOST, "/").await.expect(403);
    let path = format!("/admin/api/devices/cam-01/grants/{}", scene.alice);
    scene.cloud.administer(Method::DELETE, &path, Value::Null).await;
    scene.script(&mut browser, Method::GET, HOST, "/").await.expect(403);
    scene.cloud.grant("cam-01", &scene.alice, json!({"level": "operator"})).await;
    scene.script(&mut browser, Method::POST, HOST, "/").await.expect(200);

    let out = Url::parse(&scene.cloud.user().url("/logout")).unwrap();
    browser.call(Method::POST, &out, &[("sec-fetch-site", "same-origin")], "").await.expect(303);
    scene.script(&mut browser, Method::GET, HOST, "/").await.expect(401);
    let page = browser.open(&scene.url(HOST, "/")).await.expect(200);
    assert_eq!(page.url.path(), "/login", "a person is asked to sign in again");
}

#[tokio::test]
async fn a_person_without_a_grant_is_told_and_no_device_is_asked() {
    let scene = Scene::set().await;
    let mut browser = scene.signed_in().await;
    let before = scene.mirror.connections();
    for host in ["cam-02.devices.example", "nobody.devices.example"] {
        let page = browser.open(&scene.url(host, "/")).await.expect(403);
        assert!(page.text.contains("no access to this device, or there is no such device"), "{}", page.text);
    }
    assert_eq!(scene.mirror.connections(), before);
}

#[tokio::test]
async fn a_device_can_neither_set_nor_see_nor_clear_our_cookies() {
    let scene = Scene::set().await;
    let evil = Service::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: __Host-tcpmux-visit=evil; Path=/; Secure\r\n\
         Set-Cookie: __Host-tcpmux=evil; Path=/; Secure\r\nSet-Cookie: own=1; Domain=devices.example; Path=/\r\n\
         Clear-Site-Data: \"*\"\r\n\r\n",
    )
    .await;
    let _device = Device::enrol_and_run(&scene.cloud, "evil-01", &[("web", evil.url("http"))]).await;
    scene.cloud.grant("evil-01", &scene.alice, json!({"level": "viewer"})).await;
    let mut browser = scene.signed_in().await;
    let page = browser.open(&scene.url("evil-01.devices.example", "/")).await.expect(200);
    let set: Vec<_> = page.headers.get_all("set-cookie").iter().collect();
    assert_eq!(set, ["own=1; Path=/"], "control: its own cookie passes, for its own host");
    assert!(!page.headers.contains_key("clear-site-data"), "it would reach beyond the device's host");
    assert_ne!(browser.cookie("evil-01.devices.example", VISIT), Some("evil"));
}

#[tokio::test]
async fn a_hand_over_never_leads_to_a_foreign_host() {
    let scene = Scene::set().await;
    let mut browser = scene.signed_in().await;
    let binding = "0".repeat(64);
    for to in ["evil.example", "cam-01.evil.example/", "cam-01:1@evil", "CAM-01", "", "a--b--c"] {
        let mut url = Url::parse(&scene.cloud.user().url("/handover")).unwrap();
        url.query_pairs_mut().append_pair("to", to).append_pair("path", "/").append_pair("binding", &binding);
        browser.visit(url.as_str()).await.expect(400);
    }
    for path in ["", "x", "https://evil.example", "/\\evil.example", "/x\r\nset-cookie: a=b"] {
        let mut url = Url::parse(&scene.cloud.user().url("/handover")).unwrap();
        url.query_pairs_mut()
            .append_pair("to", "cam-01")
            .append_pair("path", path)
            .append_pair("binding", &binding);
        browser.visit(url.as_str()).await.expect(400);
    }
    let page = browser.open(&scene.url(HOST, "//evil.example/")).await.expect(200);
    assert_eq!(page.url.host_str(), Some(HOST));
    assert!(page.text.starts_with("GET //evil.example/ "), "{}", page.text);
}

#[tokio::test]
async fn a_visit_survives_a_restart_and_reading_it_waits_for_nobody_who_writes() {
    let mut scene = Scene::set().await;
    let mut browser = scene.visiting().await;
    assert_eq!(scene.cloud.stop().await, 0);
    scene.cloud.start_again().await;
    scene.cloud.until_online("cam-01", true, std::time::Duration::from_secs(30)).await;
    // The new process has never seen it, so that it is read, whoever writes meanwhile.
    let _lock = scene.cloud.lock_database().await;
    scene.script(&mut browser, Method::GET, HOST, "/").await.expect(200);
    scene.script(&mut browser, Method::POST, HOST, "/").await.expect(200);
    ask(&mut browser, &scene.cloud, "idp").await;
}
