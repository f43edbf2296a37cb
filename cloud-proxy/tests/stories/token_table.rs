//! Tokens that are not for this request: none opens a stream (D14, D15).

use aws_lc_rs::{hmac, rand::SystemRandom, signature};
use axum::body::Body;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, header::AUTHORIZATION};
use runtime::jose::SigningKey;
use serde_json::{Value, json};

use crate::{
    device::{After, Device},
    house::{HOST, House, NOW, refusal},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn house() -> House {
    House::with(Device::new().says("web", OK, After::Finish)).await
}

async fn answer(house: &House, authorization: &[&str]) -> (u16, Option<String>) {
    let mut request = Request::get("/d/cam/web/").header("host", HOST);
    for value in authorization {
        request = request.header(AUTHORIZATION, *value);
    }
    let response = house.send(request.body(Body::empty()).unwrap()).await;
    if response.status() == 200 {
        return (200, None);
    }
    let challenge = response.headers().get("www-authenticate").cloned();
    let (status, code) = refusal(response).await;
    if status == 401 {
        let challenge = challenge.unwrap();
        let challenge = challenge.to_str().unwrap();
        assert_eq!(challenge.contains("error=\"invalid_token\""), code != "TMX-4001", "{challenge}");
    }
    (status, Some(code))
}

async fn of_token(house: &House, token: &str) -> (u16, Option<String>) {
    answer(house, &[&format!("Bearer {token}")]).await
}

fn no(status: u16, code: &str) -> (u16, Option<String>) {
    (status, Some(code.to_owned()))
}

/// Signs exactly these texts with the house's key, whatever they say.
fn sign_raw(key: &SigningKey, header: &str, body: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, key.to_pkcs8().unwrap().expose()).unwrap();
    let made = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(made))
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_no_proxy_token_open_nothing() {
    let house = house().await;
    assert_eq!(answer(&house, &[]).await, no(401, "TMX-4001"));
    let good = format!("Bearer {}", house.token());
    for bad in [
        vec!["Basic dXNlcjpwYXNz"],
        vec!["Bearer"],
        vec!["PROV-ADMIN canary"],
        vec![&good, &good],
        vec!["Bearer abababababababababababababababababababababababababababababababab"],
    ] {
        assert_eq!(answer(&house, &bad).await, no(401, "TMX-4004"), "{bad:?}");
    }
    // A token from the provider, and one for another room of ours.
    for (member, value, typ, expected) in [
        ("aud", json!("tcpmux"), "at+jwt", no(401, "TMX-4003")),
        ("aud", json!("tcpmux:rest"), "at+jwt", no(401, "TMX-4003")),
        ("aud", json!("tcpmux:proxy"), "JWT", no(401, "TMX-4003")),
        ("aud", json!("tcpmux:proxy"), "ticket+jwt", no(401, "TMX-4003")),
        ("iss", json!("https://login.example.com"), "at+jwt", no(401, "TMX-4004")),
        ("iss", json!(crate::house::OPERATOR), "at+jwt", no(401, "TMX-4004")),
    ] {
        let mut body = house.token_body();
        body[member] = value.clone();
        let token = house.key.sign(typ, &body).unwrap();
        assert_eq!(of_token(&house, &token).await, expected, "{member} {value} {typ}");
    }
    assert_eq!(house.sessions.opened(), 0);
    assert_eq!(answer(&house, &[&good]).await, (200, None), "control");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_device_tenant_or_service_opens_nothing_here() {
    let house = house().await;
    for (member, value, expected) in [
        ("devices", json!({"cam-02": {"level": "owner"}}), no(403, "TMX-4030")),
        ("devices", json!({}), no(403, "TMX-4030")),
        ("devices", json!({"cam": {"level": "owner", "services": ["api"]}}), no(403, "TMX-4031")),
        ("devices", json!({"cam": {"level": "owner", "services": []}}), no(403, "TMX-4031")),
    ] {
        let mut body = house.token_body();
        body[member] = value.clone();
        assert_eq!(of_token(&house, &house.sign(&body)).await, expected, "{value}");
    }
    assert_eq!(house.sessions.opened(), 0);
    // The same device id in another tenant is another device, and it is not connected.
    let mut body = house.token_body();
    body["tenant"] = "blue".into();
    assert_eq!(of_token(&house, &house.sign(&body)).await, no(503, "TMX-3001"));
}

#[tokio::test(start_paused = true)]
async fn forged_and_malformed_tokens_open_nothing() {
    let house = house().await;
    let body = house.token_body().to_string();
    let header = |members: Value| {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": house.key.id()});
        header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        header.to_string()
    };
    let mut cases: Vec<(String, String)> = Vec::new();
    for (what, members) in [
        ("jku", json!({"jku": "https://evil.example/jwks.json"})),
        ("x5u", json!({"x5u": "https://evil.example/cert"})),
        ("x5c", json!({"x5c": ["AAAA"]})),
        ("jwk", json!({"jwk": house.key.public_jwk()})),
        ("crit", json!({"crit": ["exp"]})),
        ("b64", json!({"b64": false})),
        ("kid as a path", json!({"kid": "../../../dev/null"})),
        ("kid as SQL", json!({"kid": "' or 1=1 --"})),
        ("kid of another type", json!({"kid": 1})),
        ("algorithm of another kind", json!({"alg": "RS256"})),
        ("no algorithm", json!({"alg": "none"})),
        ("alg in odd case", json!({"alg": "es256"})),
    ] {
        cases.push((what.into(), sign_raw(&house.key, &header(members), &body)));
    }
    let unsigned = |algorithm: &str| {
        let header = header(json!({"alg": algorithm}));
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&body))
    };
    for algorithm in ["none", "None", "nOnE", "ES256"] {
        cases.push((format!("unsigned {algorithm}"), unsigned(algorithm)));
    }
    // The public key, used as a shared secret.
    let signed = unsigned("HS256").trim_end_matches('.').to_owned();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, house.key.public_jwk().to_string().as_bytes());
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, signed.as_bytes()));
    cases.push(("HS256".into(), format!("{signed}.{mac}")));

    let good_header = header(json!({}));
    for (what, body) in [
        ("exp twice", body.replacen('{', "{\"exp\":1,", 1)),
        ("devices twice", body.replacen('{', "{\"devices\":{},", 1)),
        ("an array", "[]".into()),
        ("half", body[..body.len() / 2].into()),
    ] {
        cases.push((what.into(), sign_raw(&house.key, &good_header, &body)));
    }
    for (member, value) in [
        ("exp", json!("1900000000")),
        ("exp", Value::Null),
        ("exp", json!(1e300)),
        ("exp", json!(-1)),
        ("nbf", json!("now")),
        ("sub", json!(7)),
        ("gv", json!("7")),
        ("until", json!([])),
        ("devices", json!("cam")),
        ("tenant", json!({"name": "default"})),
    ] {
        let mut body = house.token_body();
        body[member] = value.clone();
        cases.push((format!("{member} {value}"), house.sign(&body)));
    }
    for member in ["iss", "aud", "sub", "exp", "iat", "tenant", "gv", "devices"] {
        let mut body = house.token_body();
        body.as_object_mut().unwrap().remove(member);
        cases.push((format!("without {member}"), house.sign(&body)));
    }
    let good = house.token();
    let (rest, signature) = good.rsplit_once('.').unwrap();
    cases.push(("signature of zeros".into(), format!("{rest}.{}", URL_SAFE_NO_PAD.encode([0; 64]))));
    cases.push(("no signature".into(), format!("{rest}.")));
    cases.push(("signature with padding".into(), format!("{rest}.{signature}==")));
    cases.push(("four parts".into(), format!("{good}.x")));
    cases.push(("too long".into(), format!("{good}{}", "A".repeat(9000))));
    cases.push((
        "stranger's".into(),
        SigningKey::generate().unwrap().sign("at+jwt", &house.token_body()).unwrap(),
    ));
    for (what, token) in &cases {
        assert_eq!(of_token(&house, token).await, no(401, "TMX-4004"), "{what}");
    }
    assert_eq!(house.sessions.opened(), 0);
    assert_eq!(of_token(&house, &sign_raw(&house.key, &good_header, &body)).await, (200, None), "control");
}

#[tokio::test(start_paused = true)]
async fn tokens_out_of_their_time_open_nothing() {
    let house = house().await;
    for (member, seconds) in [("exp", 0), ("exp", -300), ("nbf", 3600), ("iat", 3600), ("until", 0)] {
        let mut body = house.token_body();
        body[member] = (NOW.secs() + seconds).into();
        assert_eq!(of_token(&house, &house.sign(&body)).await, no(401, "TMX-4002"), "{member} {seconds}");
    }
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_in_the_query_counts_for_nothing_and_is_not_touched() {
    let house = house().await;
    let request = Request::get(format!("/d/cam/web/?access_token={}", house.token())).header("host", HOST);
    assert_eq!(house.send(request.body(Body::empty()).unwrap()).await.status(), 401);
    assert_eq!(house.sessions.opened(), 0);
}
