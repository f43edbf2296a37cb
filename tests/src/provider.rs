//! A sign-in provider of the test: discovery, keys, tokens, and every way of misbehaving.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{Service, Signer, now};

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct Provider {
    service: Service,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    signer: Arc<Signer>,
    published: Vec<Value>,
    is_down: bool,
    issuer_override: Option<String>,
}

impl Provider {
    /// Starts it with one key.
    pub async fn start() -> Self {
        let signer = Arc::new(Signer::new("key-1"));
        let published = vec![signer.jwk()];
        let state = Arc::new(Mutex::new(State { signer, published, is_down: false, issuer_override: None }));
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
        Self { service, state }
    }

    /// The issuer in its tokens.
    pub fn issuer(&self) -> String {
        self.service.url("http")
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

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.service.connections()
    }
}

fn answer(state: &Mutex<State>, request: &str) -> String {
    let state = state.lock().unwrap();
    let host =
        request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host:").map(str::to_owned));
    let own = format!("http://{}", host.unwrap_or_default().trim());
    let issuer = state.issuer_override.clone().unwrap_or_else(|| own.clone());
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        _ if state.is_down => ("503 Service Unavailable", json!({})),
        "/.well-known/openid-configuration" => (
            "200 OK",
            json!({
                "issuer": issuer, "jwks_uri": format!("{own}/jwks.json"),
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            }),
        ),
        "/jwks.json" => ("200 OK", json!({"keys": state.published})),
        _ => ("404 Not Found", json!({})),
    };
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
