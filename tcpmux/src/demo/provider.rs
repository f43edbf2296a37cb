//! A sign-in provider for the demo: OpenID Connect discovery, keys, and a token for whoever asks.
//!
//! It listens on loopback and vouches for anybody by any name: never run it beside real devices.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use runtime::{Clock, Tasks, jose::SigningKey, listen, random};
use serde_json::{Value, json};

/// A provider that runs.
#[derive(Debug, Clone)]
pub(super) struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: String,
    key: SigningKey,
    clock: Clock,
}

impl Provider {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// If there is no port or no key.
    pub(super) async fn start(clock: Clock, tasks: &Tasks) -> anyhow::Result<Self> {
        let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let provider = Self(Arc::new(Inner { issuer, key: SigningKey::generate()?, clock }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks.json", get(keys))
            .route("/token/{user}", get(token))
            .with_state(provider.clone());
        let accepting = tasks.clone();
        tasks.spawn(async move {
            listen::accept(listener, &accepting, |socket, _| {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service);
                accepting.spawn(connection);
            })
            .await;
        });
        Ok(provider)
    }

    /// The issuer's address, also where its tokens are fetched.
    pub(super) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// A token that says who somebody is, good for an hour.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub(super) fn token(&self, user: &str) -> anyhow::Result<String> {
        let now = self.0.clock.now().secs();
        let body = json!({
            "iss": self.0.issuer,
            "sub": user,
            "aud": AUDIENCE,
            "email": format!("{user}@example.com"),
            "iat": now,
            "exp": now + 3600,
            "jti": model::hex(&random::bytes::<8>()),
        });
        Ok(self.0.key.sign("JWT", &body)?)
    }
}

async fn discovery(State(provider): State<Provider>) -> Json<Value> {
    let issuer = provider.issuer();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks.json"),
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
    }))
}

async fn keys(State(provider): State<Provider>) -> Json<Value> {
    Json(json!({"keys": [provider.0.key.public_jwk()]}))
}

async fn token(State(provider): State<Provider>, Path(user): Path<String>) -> Result<String, StatusCode> {
    if user.is_empty() || user.len() > 32 || !user.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(StatusCode::BAD_REQUEST);
    }
    provider.token(&user).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// The audience of the demo's tokens.
pub(super) const AUDIENCE: &str = "tcpmux";
