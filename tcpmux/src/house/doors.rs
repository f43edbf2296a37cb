//! The doors: one listener each, a router of its own each, nothing of one reachable through another.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, body::Body};
use cloud_gateway::{ClientCertificate, device_verifier};
use cloud_proxy::{Cors, Proxy};
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, HOST},
};
use runtime::{
    Clock, Handshakes, RequestBody, Tasks,
    http::{ConnectionInfo, RouteSpec, Routes, ServeOptions, serve_connection},
    listen::{self, Choose, Limits, Secured},
    tls::{Clients, server_config},
};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::{health, misconfigured, parts::Parts};
use crate::{
    config::{Config, Role},
    data::Listening,
    exit::Failure,
};

/// Bound and not yet served.
pub(super) struct Sockets {
    user: Option<TcpListener>,
    device: Option<TcpListener>,
    admin: TcpListener,
    published: Vec<TcpListener>,
}

impl Sockets {
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let user = config.has(Role::Proxy) || config.has(Role::Gateway);
        let device = config.has(Role::Tunnel) || config.has(Role::Provision);
        let mut published = vec![];
        for port in &config.publish {
            published.push(listen::bind(port.listen).await.context("publish")?);
        }
        Ok(Self {
            user: if user {
                Some(listen::bind(config.listen.user).await.context("listen.user")?)
            } else {
                None
            },
            device: if device {
                Some(listen::bind(config.listen.device).await.context("listen.device")?)
            } else {
                None
            },
            admin: listen::bind(config.listen.admin).await.context("listen.admin")?,
            published,
        })
    }

    /// The addresses that were bound, and the public address that follows from them.
    pub(super) fn listening(&self, config: &Config) -> Listening {
        let of = |listener: &TcpListener| listener.local_addr().ok();
        let user = self.user.as_ref().and_then(of);
        let public_url = if config.public_url.is_empty() {
            format!("https://localhost:{}", user.map_or(0, |address| address.port()))
        } else {
            config.public_url.trim_end_matches('/').to_owned()
        };
        Listening {
            user,
            device: self.device.as_ref().and_then(of),
            admin: of(&self.admin),
            peer: None,
            published: self.published.iter().filter_map(of).collect(),
            public_url,
        }
    }
}

/// Serves every door; tells every route that is mounted.
pub(super) fn open(
    sockets: Sockets,
    config: &Config,
    parts: &Parts,
    clock: Clock,
    tasks: &Tasks,
) -> Result<Vec<(&'static str, RouteSpec)>, Failure> {
    let mut inventory = vec![];
    let guards = parts.guards();
    let mut mount = |door: &'static str, routes: Routes| {
        inventory.extend(routes.specs().into_iter().map(|spec| (door, spec)));
        guards.mount(routes)
    };
    let user = mount("user", parts.user_routes());
    let device = mount("device", parts.device_routes());
    let at_user = Handshakes::within(Limits::default());
    let at_device = Handshakes::within(Limits { unread: DEAD_DEVICE, ..Limits::default() });
    let at_admin = Handshakes::within(Limits::default());
    let handshakes =
        vec![("user", at_user.clone()), ("device", at_device.clone()), ("admin", at_admin.clone())];
    let health = health::routes(parts.store.clone(), parts.registry.clone(), handshakes, tasks);
    let admin = mount("admin", parts.admin_routes().merge(health));
    if let Some(proxy) = &parts.proxy {
        inventory.extend(Proxy::routes().into_iter().map(|spec| ("user", spec)));
        for (listener, port) in sockets.published.into_iter().zip(&config.publish) {
            let (proxy, port) = (Arc::clone(proxy), Parts::publish_config(port));
            tasks.spawn(async move {
                proxy.publish(listener, port).await;
            });
        }
    }
    if let Some(listener) = sockets.user {
        open_user(listener, at_user, config, parts, user, tasks);
    }
    if let Some(listener) = sockets.device {
        open_device(listener, at_device, config, parts, device, clock, tasks)?;
    }
    open_admin(sockets.admin, at_admin, parts, admin, tasks);
    tasks.spawn(health::upkeep(health::recorder()));
    Ok(inventory)
}

fn open_user(
    listener: TcpListener,
    handshakes: Handshakes,
    config: &Config,
    parts: &Parts,
    router: Router,
    tasks: &Tasks,
) {
    let tls = server_config(parts.user_certificate(), Clients::Anonymous, true, &[b"h2", b"http/1.1"]);
    let tls = Arc::new(tls);
    let choose: Arc<Choose> = Arc::new(move |_| Some(Arc::clone(&tls)));
    let rooms = Arc::new(UserRooms {
        proxy: parts.proxy.clone(),
        router,
        cors: Cors::new(config.cors.origins.clone()),
    });
    let connections = tasks.clone();
    tasks.spawn(listen::accept_tls(listener, handshakes, choose, tasks.clone(), move |tls, peer| {
        let (rooms, connections) = (Arc::clone(&rooms), connections.clone());
        async move {
            let info = ConnectionInfo::of(&tls, peer);
            let answer = move |request| Arc::clone(&rooms).answer(request);
            serve_connection(tls, info, ServeOptions::default(), &connections, answer).await;
        }
    }));
}

/// What stands behind the user door: the proxy for what is a device's, the table of routes for the rest.
struct UserRooms {
    proxy: Option<Arc<Proxy>>,
    router: Router,
    cors: Cors,
}

impl UserRooms {
    async fn answer(self: Arc<Self>, request: Request<RequestBody>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let is_proxied = self.proxy.as_ref().filter(|proxy| proxy.claims(&head));
        if let Some(proxy) = is_proxied {
            return proxy.handle(Request::from_parts(head, body)).await;
        }
        if let Some(answer) = self.cors.preflight(&head.method, &head.headers) {
            return answer;
        }
        let origin = self.cors.allowed(&head.headers).cloned();
        let mut response = route(self.router.clone(), Request::from_parts(head, body)).await;
        self.cors.open(origin.as_ref(), response.headers_mut());
        response
    }
}

fn open_device(
    listener: TcpListener,
    handshakes: Handshakes,
    config: &Config,
    parts: &Parts,
    router: Router,
    clock: Clock,
    tasks: &Tasks,
) -> Result<(), Failure> {
    let certificate = parts.device_door_certificate();
    let anchors = parts.device_anchors.clone();
    let verifier = |asked| device_verifier(anchors.clone(), asked, clock.clone()).map_err(misconfigured);
    let tunnel = parts
        .tunnels
        .is_some()
        .then(|| {
            let strict = Clients::Certified(verifier(ClientCertificate::Required)?);
            let mut config = server_config(certificate.clone(), strict, false, &[tcpmux_proto::ALPN]);
            // A tunnel seals and opens its records itself.
            config.enable_secret_extraction = true;
            Ok::<_, Failure>(Arc::new(config))
        })
        .transpose()?;
    let web = parts
        .provisioning
        .is_some()
        .then(|| {
            let days = u64::from(config.ca.renew_after_expiry_days);
            let lenient =
                ClientCertificate::Optional { renew_after_expiry: Duration::from_secs(days * 86_400) };
            let lenient = Clients::Certified(verifier(lenient)?);
            Ok::<_, Failure>(Arc::new(server_config(certificate.clone(), lenient, true, &[b"http/1.1"])))
        })
        .transpose()?;
    let choose: Arc<Choose> = Arc::new(move |offered| {
        let (mut any, mut http) = (false, false);
        for name in offered {
            if name == tcpmux_proto::ALPN {
                return tunnel.clone();
            }
            any = true;
            http |= name == b"http/1.1";
        }
        if http || !any { web.clone() } else { None }
    });
    let (tunnels, connections) = (parts.tunnels.clone(), tasks.clone());
    let options = ServeOptions { title_case_headers: true, ..ServeOptions::default() };
    tasks.spawn(listen::accept_secured(listener, handshakes, choose, tasks.clone(), move |secured, peer| {
        let (tunnels, router, connections) = (tunnels.clone(), router.clone(), connections.clone());
        async move {
            match secured {
                Secured::Records(records, device) => {
                    if let Some(tunnels) = tunnels {
                        tunnels.serve(records, &device, peer);
                    }
                }
                Secured::Stream(tls) => {
                    let info = ConnectionInfo::of(&tls, peer);
                    let answer = move |request| route(router.clone(), request);
                    serve_connection(tls, info, options, &connections, answer).await;
                }
            }
        }
    }));
    Ok(())
}

fn open_admin(listener: TcpListener, handshakes: Handshakes, parts: &Parts, router: Router, tasks: &Tasks) {
    let tls = server_config(parts.admin_certificate(), Clients::Anonymous, true, &[b"h2", b"http/1.1"]);
    let tls = Arc::new(tls);
    let choose: Arc<Choose> = Arc::new(move |_| Some(Arc::clone(&tls)));
    let connections = tasks.clone();
    tasks.spawn(listen::accept_tls(listener, handshakes, choose, tasks.clone(), move |tls, peer| {
        let (router, connections) = (router.clone(), connections.clone());
        async move {
            let info = ConnectionInfo::of(&tls, peer);
            let answer = move |request| route(router.clone(), request);
            serve_connection(tls, info, ServeOptions::default(), &connections, answer).await;
        }
    }));
}

async fn route(router: Router, request: Request<RequestBody>) -> Response<Body> {
    // RFC 9112 §3.2. Others on the way may go by the one or by the other.
    let hosts = request.headers().get_all(HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A daemon always reads: one that acknowledges nothing for so long is gone.
const DEAD_DEVICE: Duration = Duration::from_secs(20);
