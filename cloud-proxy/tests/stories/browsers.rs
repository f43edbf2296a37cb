//! Browsers: pages of other origins, navigations, and what a device may not do to our origin.

use axum::body::Body;
use http::{Request, header::AUTHORIZATION};

use crate::{
    device::{After, Device},
    house::{HOST, House, refusal},
};

const APP: &str = "https://app.example.com";

async fn house() -> House {
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: /login\r\nset-cookie: a=1; Path=/\r\nclear-site-data: \"*\"\r\n\
        access-control-allow-origin: *\r\ncontent-length: 0\r\n\r\n";
    House::with(Device::new().says("web", answer, After::Stay)).await
}

fn preflight(origin: &str) -> Request<Body> {
    Request::options("/d/cam/web/x")
        .header("host", HOST)
        .header("origin", origin)
        .header("access-control-request-method", "DELETE")
        .header("access-control-request-headers", "authorization")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_preflight_of_a_configured_origin_needs_no_token_and_reaches_no_device() {
    let house = house().await;
    let response = house.send(preflight(APP)).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], APP);
    assert_eq!(response.headers()["access-control-allow-headers"], "authorization");
    let response = house.send(preflight("https://evil.example")).await;
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    assert_eq!(refusal(response).await, (401, "TMX-4001".into()));
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_configured_origin_read_answers_and_refusals() {
    let house = house().await;
    for (origin, is_open) in [(APP, true), ("https://evil.example", false)] {
        let mut request = house.request("GET", "/").header("origin", origin).body(Body::empty()).unwrap();
        let response = house.send(request).await;
        assert_eq!(response.headers().get("access-control-allow-origin").is_some(), is_open, "{origin}");
        request = house.request("GET", "/").header("origin", origin).body(Body::empty()).unwrap();
        request.headers_mut().remove(AUTHORIZATION);
        let response = house.send(request).await;
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers().get("access-control-allow-origin").is_some(), is_open, "{origin}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_navigation_goes_to_the_devices_own_host() {
    let house = house().await;
    let mut request =
        house.request("GET", "/a?b").header("sec-fetch-mode", "navigate").body(Body::empty()).unwrap();
    request.headers_mut().remove(AUTHORIZATION);
    let response = house.send(request).await;
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], "https://cam.dev.example.com/a?b");
    let post = house.request("POST", "/a").header("sec-fetch-mode", "navigate").body(Body::empty()).unwrap();
    assert_eq!(refusal(house.send(post).await).await.0, 400);
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn in_the_path_form_an_answer_stays_in_its_place() {
    let house = house().await;
    let response = house.get("/").await;
    assert_eq!(response.headers()["location"], "/d/cam/web/login");
    assert_eq!(response.headers()["set-cookie"], "a=1; Path=/d/cam/web");
    assert_eq!(response.headers()["content-security-policy"], "sandbox");
    assert!(!response.headers().contains_key("clear-site-data"));
    let mut request = house.request("GET", "").body(Body::empty()).unwrap();
    *request.uri_mut() = "/".parse().unwrap();
    request.headers_mut().insert("host", "cam.dev.example.com".parse().unwrap());
    let response = house.send(request).await;
    assert_eq!(response.headers()["location"], "/login");
    assert!(!response.headers().contains_key("clear-site-data"), "it would reach beyond the device's host");
    assert!(!response.headers().contains_key("content-security-policy"));
}
