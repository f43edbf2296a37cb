//! The proxy as the door sees it.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response, Version, header::CONNECTION, request::Parts};
use model::RequestId;
use registry::Registry;
use runtime::{
    Clock, RequestBody, Tasks,
    http::{Caller, ConnectionInfo, RouteSpec, fault},
    random,
};
use tcpmux_proto::Dialer;
use tokio::net::TcpListener;

use crate::{
    account::Account,
    cors::Cors,
    publish::{self, PublishConfig},
    surroundings::{Surroundings, Timeouts},
    target::{self, Hosts},
    tokens::Tokens,
    visit::Visit,
    visitors::{Browsers, SignIn},
};

/// What the proxy is told by configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The names under which it is reached.
    pub hosts: Hosts,
    /// Which pages of other origins may call.
    pub cors: Cors,
    /// How long it waits for what.
    pub timeouts: Timeouts,
    /// How browsers get in at devices' own hosts; without it they need a token like everybody.
    pub sign_in: Option<SignIn>,
}

/// The client-facing proxy of one user door.
pub struct Proxy {
    pub(crate) hosts: Hosts,
    pub(crate) cors: Cors,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) browsers: Option<Browsers>,
    pub(crate) around: Arc<Surroundings>,
}

impl Proxy {
    /// A proxy that reaches devices through `dialer` for whoever shows one of these tokens.
    pub fn new(
        config: Config,
        dialer: Arc<dyn Dialer>,
        tokens: Arc<Tokens>,
        registry: Registry,
        clock: Clock,
        tasks: Tasks,
    ) -> Arc<Self> {
        let Config { hosts, cors, timeouts, sign_in } = config;
        let around = Arc::new(Surroundings { dialer, registry, clock, tasks, timeouts });
        Arc::new(Self { hosts, cors, tokens, browsers: sign_in.map(Browsers::new), around })
    }

    /// Whether a request is for this proxy, by its path or its host. The door asks before it routes: under a
    /// device's own host every path is the device's, also `/v1/…`.
    pub fn claims(&self, parts: &Parts) -> bool {
        target::claims(&self.hosts, parts)
    }

    /// Answers one request. It has to come from `runtime::http::serve_connection`, which tells who is calling.
    pub async fn handle(&self, mut request: Request<RequestBody>) -> Response<Body> {
        let Some(ConnectionInfo { peer, .. }) = request.extensions_mut().remove::<ConnectionInfo>() else {
            return fault("serving a proxy request", &"it came without its connection");
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let request_id = RequestId::from_random(random::bytes());
        let account = Account::of_request(request_id.clone(), peer, &parts);
        let is_http2 = parts.version == Version::HTTP_2;
        let origin = self.cors.allowed(&parts.headers).cloned();

        let visit = Visit { proxy: self, parts: &parts, request_id: &request_id, peer };
        let mut response = visit.answer(body, upgrade, account).await;
        self.cors.open(origin.as_ref(), response.headers_mut());
        if is_http2 {
            // RFC 9113 §8.2.2: there is no such header there.
            response.headers_mut().remove(CONNECTION);
        }
        response
    }

    /// Serves a published TCP port until draining begins.
    pub async fn publish(&self, listener: TcpListener, config: PublishConfig) {
        publish::publish(Arc::clone(&self.around), listener, config).await;
    }

    /// What the proxy answers, for the inventory of routes. The host form has the same, under other hosts.
    pub fn routes() -> Vec<RouteSpec> {
        let methods =
            [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        let path = "/d/{device}/{service}/{*path}";
        let mut routes: Vec<RouteSpec> = methods
            .into_iter()
            .map(|method| RouteSpec { method, path, caller: Caller::ProxyToken })
            .collect();
        let path = "/v1/devices/{id}/streams/{service}";
        routes.push(RouteSpec { method: Method::GET, path, caller: Caller::ProxyToken });
        routes
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
