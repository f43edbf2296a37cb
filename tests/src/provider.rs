//! A sign-in provider of the test: discovery, keys, tokens, and every way of misbehaving.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use serde_json::{Value, json};
use tokio::{io::copy_bidirectional, net::TcpStream};

use crate::{Authority, Service, Signer, base64url, now};

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct Provider {
    service: Service,
    state: Arc<Mutex<State>>,
    /// What stands in front of it with TLS, where something does.
    front: Option<(Service, Authority)>,
}

#[derive(Debug)]
struct State {
    signer: Arc<Signer>,
    published: Vec<Value>,
    is_down: bool,
    issuer_override: Option<String>,
    /// What the token endpoint gives for a code: once, to whoever knows what the challenge was made of.
    codes: HashMap<String, Code>,
    names_itself: bool,
    scheme: &'static str,
}

#[derive(Debug)]
struct Code {
    challenge: String,
    redirect_uri: String,
    answer: Value,
}

impl Provider {
    /// Starts it with one key.
    pub async fn start() -> Self {
        let signer = Arc::new(Signer::new("key-1"));
        let published = vec![signer.jwk()];
        let state = Arc::new(Mutex::new(State {
            signer,
            published,
            is_down: false,
            issuer_override: None,
            codes: HashMap::new(),
            names_itself: true,
            scheme: "http",
        }));
        let shared = Arc::clone(&state);
        let service = Service::start(move |mut conversation| {
            let state = Arc::clone(&shared);
            async move {
                while let Some(request) = conversation.request().await {
                    let request = String::from_utf8_lossy(&request).into_owned();
                    conversation.write(answer(&state, &request)).await;
                }
            }
        })
        .await;
        Self { service, state, front: None }
    }

    /// Starts it behind TLS, with a certificate of a CA of its own.
    pub async fn start_behind_tls() -> Self {
        let mut provider = Self::start().await;
        let authority = Authority::new();
        let acceptor = authority.acceptor();
        let behind = provider.service.address();
        let front = Service::start(move |conversation| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(conversation.into_socket()).await else { return };
                let mut behind = TcpStream::connect(behind).await.unwrap();
                // Whoever ends it, the other side learns it.
                let _ = copy_bidirectional(&mut stream, &mut behind).await;
            }
        })
        .await;
        provider.state.lock().unwrap().scheme = "https";
        provider.front = Some((front, authority));
        provider
    }

    /// The root of its certificate, if it is behind TLS.
    pub fn root(&self) -> Option<PathBuf> {
        self.front.as_ref().map(|(_, authority)| authority.root())
    }

    /// The issuer in its tokens.
    pub fn issuer(&self) -> String {
        self.front.as_ref().map_or_else(|| self.service.url("http"), |(front, _)| front.url("https"))
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        format!("{}/jwks.json", self.issuer())
    }

    /// The configuration that makes a cloud accept its users.
    pub fn config(&self) -> String {
        format!("[[oidc]]\nissuer = \"{}\"\naudience = \"tcpmux\"\ntenant = \"default\"\n", self.issuer())
    }

    /// A token that says who somebody is.
    pub fn token(&self, subject: &str) -> String {
        self.sign(&self.body(subject))
    }

    /// The body of such a token, to be spoilt.
    pub fn body(&self, subject: &str) -> Value {
        json!({
            "iss": self.issuer(), "sub": subject, "aud": "tcpmux", "email": format!("{subject}@example.com"),
            "iat": now(), "exp": now() + 600, "jti": format!("{subject}-{}", now()),
        })
    }

    /// Signs a body with the key of the day.
    pub fn sign(&self, body: &Value) -> String {
        self.signer().sign("JWT", body)
    }

    /// The key of the day.
    pub fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.state.lock().unwrap().signer)
    }

    /// Signs with a new key from now on, and publishes it beside the others.
    pub fn rotate(&self) {
        let mut state = self.state.lock().unwrap();
        let signer = Arc::new(Signer::new(&format!("key-{}", state.published.len() + 1)));
        let jwk = signer.jwk();
        state.published.push(jwk);
        state.signer = signer;
    }

    /// Answers 503 to everything, or no longer.
    pub fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    /// Names another issuer in its discovery document.
    pub fn claim_to_be(&self, issuer: &str) {
        self.state.lock().unwrap().issuer_override = Some(issuer.to_owned());
    }

    /// The same with a client for browsers, under this name in the cloud's addresses.
    pub fn sign_in_config(&self, name: &str) -> String {
        format!(
            "{}name = \"{name}\"\nclient_id = \"web\"\nclient_secret = \"{CLIENT_SECRET}\"\n",
            self.config()
        )
    }

    /// Has the token endpoint give this answer for a code that was asked for with this challenge.
    pub fn will_redeem(&self, code: &str, challenge: &str, redirect_uri: &str, answer: Value) {
        let code_of = Code { challenge: challenge.into(), redirect_uri: redirect_uri.into(), answer };
        self.state.lock().unwrap().codes.insert(code.into(), code_of);
    }

    /// Whether it says that its answers carry `iss` (RFC 9207).
    pub fn set_names_itself(&self, names_itself: bool) {
        self.state.lock().unwrap().names_itself = names_itself;
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.service.connections()
    }
}

fn answer(state: &Mutex<State>, request: &str) -> String {
    let mut state = state.lock().unwrap();
    let host =
        request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host:").map(str::to_owned));
    let own = format!("{}://{}", state.scheme, host.unwrap_or_default().trim());
    let issuer = state.issuer_override.clone().unwrap_or_else(|| own.clone());
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        _ if state.is_down => ("503 Service Unavailable", json!({})),
        "/.well-known/openid-configuration" => (
            "200 OK",
            json!({
                "issuer": issuer, "jwks_uri": format!("{own}/jwks.json"),
                "authorization_endpoint": format!("{own}/authorize"), "token_endpoint": format!("{own}/token"),
                "authorization_response_iss_parameter_supported": state.names_itself,
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            }),
        ),
        "/jwks.json" => ("200 OK", json!({"keys": state.published})),
        "/token" => match redeem(&mut state.codes, request) {
            Some(answer) => ("200 OK", answer),
            None => ("400 Bad Request", json!({"error": "invalid_grant"})),
        },
        _ => ("404 Not Found", json!({})),
    };
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Checks the client, the code, the address and the proof of RFC 7636, as a provider does.
fn redeem(codes: &mut HashMap<String, Code>, request: &str) -> Option<Value> {
    let (head, body) = request.split_once("\r\n\r\n")?;
    let fields: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let is_client = head.contains(&format!(
        "Basic {}",
        base64::prelude::BASE64_STANDARD.encode(format!("web:{CLIENT_SECRET}"))
    ));
    let code = codes.remove(fields.get("code")?)?;
    let proof = base64url(digest(&SHA256, fields.get("code_verifier")?.as_bytes()));
    let is_right = proof == code.challenge && fields.get("redirect_uri") == Some(&code.redirect_uri);
    (is_client && is_right && fields.get("grant_type")? == "authorization_code").then_some(code.answer)
}

/// The secret of the client `web` in [`Provider::sign_in_config`].
pub const CLIENT_SECRET: &str = "s3cret-of-the-client-web-4c1f";
