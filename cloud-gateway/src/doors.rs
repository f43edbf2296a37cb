//! In front of every route: the proof that its callers must bring. There is no route without a [`Caller`], so
//! there is none without a decision.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE},
};
use model::{AdminActor, Code, DoorKey, Refusal};
use runtime::{
    Clock,
    http::{Caller, ConnectionInfo, Routes, problem},
    jose::bearer,
};

use crate::{
    admin_key::AdminKey, device_identity::DeviceGuard, logins::Logins, subscribers::Subscribers, users::Users,
};

/// Every proof that this process can take.
#[derive(Debug, Clone)]
pub struct Guards(Arc<Proofs>);

#[derive(Debug)]
struct Proofs {
    admin: AdminKey,
    users: Option<(Arc<Users>, Arc<Logins>)>,
    subscribers: Option<Subscribers>,
    devices: Option<DeviceGuard>,
    clock: Clock,
    door_key: DoorKey,
}

impl Guards {
    /// Guards of a process without people: operators, and devices where a guard is given. Routes for people are
    /// refused.
    pub fn new(admin: AdminKey, devices: Option<DeviceGuard>, clock: Clock, door_key: DoorKey) -> Self {
        Self(Arc::new(Proofs { admin, users: None, subscribers: None, devices, clock, door_key }))
    }

    pub(crate) fn with_users(
        admin: AdminKey,
        users: (Arc<Users>, Arc<Logins>),
        subscribers: Subscribers,
        devices: Option<DeviceGuard>,
        clock: Clock,
        door_key: DoorKey,
    ) -> Self {
        let (users, subscribers) = (Some(users), Some(subscribers));
        Self(Arc::new(Proofs { admin, users, subscribers, devices, clock, door_key }))
    }

    /// A router of these routes, each behind its guard. An actor that was proven is an extension of the request;
    /// the credential is gone from it. What is not in the table is refused with a problem document.
    pub fn mount(&self, routes: Routes) -> Router {
        let mut router = Router::new();
        for route in routes.into_routes() {
            let gate = Gate { guards: self.clone(), caller: route.spec.caller };
            router = router.route(route.spec.path, route.handler.route_layer(from_fn_with_state(gate, pass)));
        }
        router.fallback(no_such_route).method_not_allowed_fallback(wrong_method)
    }
}

#[derive(Clone)]
struct Gate {
    guards: Guards,
    caller: Caller,
}

async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match gate.prove(&mut request).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => gate.refused(&refusal),
    }
}

impl Gate {
    async fn prove(&self, request: &mut Request) -> Result<(), Refusal> {
        let proofs = &self.guards.0;
        let connection = request.extensions().get::<ConnectionInfo>().cloned();
        match self.caller {
            Caller::Anyone => {}
            // The room itself reads the credential or the certificate.
            Caller::Passcode | Caller::Certificate | Caller::ProxyToken | Caller::Browser => return Ok(()),
            Caller::Admin => {
                let source = connection.as_ref().map(|connection| connection.peer);
                let address = source.map_or(IpAddr::from([0; 4]), |source| source.ip());
                proofs.admin.prove(request.headers(), address)?;
                let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
                request.extensions_mut().insert(AdminActor::new(&proofs.door_key, source));
            }
            Caller::User => {
                let (users, logins) = proofs.users.as_ref().ok_or_else(no_people)?;
                let user = if request.headers().contains_key(AUTHORIZATION) {
                    users.prove(bearer(request.headers())?).await?
                } else {
                    logins.prove(request.method(), request.headers()).await?
                };
                request.extensions_mut().insert(user);
            }
            Caller::Subscriber => {
                let (users, _) = proofs.users.as_ref().ok_or_else(no_people)?;
                let subscribers = proofs.subscribers.as_ref().ok_or_else(no_people)?;
                let subscriber = subscribers.of_token(users, bearer(request.headers())?).await?;
                request.extensions_mut().insert(subscriber);
            }
            Caller::Ticket => {
                let subscribers = proofs.subscribers.as_ref().ok_or_else(no_people)?;
                let subscriber = subscribers.of_ticket(request).await?;
                request.extensions_mut().insert(subscriber);
            }
            Caller::Device => {
                let devices = proofs.devices.as_ref().ok_or_else(no_devices)?;
                let (headers, now) = (request.headers(), proofs.clock.now());
                let device = devices.prove(headers, connection.as_ref(), &proofs.door_key, now).await?;
                request.extensions_mut().insert(device);
            }
            Caller::DeviceCertificate => {
                let devices = proofs.devices.as_ref().ok_or_else(no_devices)?;
                let (door_key, now) = (&proofs.door_key, proofs.clock.now());
                let device = devices.prove_by_certificate(connection.as_ref(), door_key, now).await?;
                request.extensions_mut().insert(device);
            }
        }
        strip(request.headers_mut());
        Ok(())
    }

    fn refused(&self, refusal: &Refusal) -> Response {
        let mut response = problem(refusal);
        if response.status() == 401 {
            let challenge = match (self.caller, refusal.code) {
                (Caller::Admin, _) => "PROV-ADMIN",
                (Caller::DeviceCertificate, _) => r#"Certificate realm="tcpmux""#,
                (_, Code::TokenMissing) => r#"Bearer realm="tcpmux""#,
                _ => r#"Bearer realm="tcpmux", error="invalid_token""#,
            };
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

fn no_people() -> Refusal {
    Refusal::new(Code::TokenUnknownKey, "no one can sign in to this process")
}

fn no_devices() -> Refusal {
    Refusal::new(Code::NotGranted, "devices are not served by this process")
}

/// A handler that cannot see a credential cannot log, store or forward one.
fn strip(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
        headers.remove(name);
    }
}

fn no_such_route(uri: Uri) -> Ready<Response> {
    ready(told(&uri, &Refusal::new(Code::NoSuchRoute, "there is no such address at this door")))
}

fn wrong_method(method: Method, uri: Uri) -> Ready<Response> {
    let detail = format!("this address does not take {method}");
    ready(told(&uri, &Refusal::new(Code::NoSuchRoute, detail).with_status(405)))
}

/// A problem document, but text for EST's clients, which show a person what they get (RFC 8951 §3.2).
fn told(uri: &Uri, refusal: &Refusal) -> Response {
    let mut response = problem(refusal);
    if uri.path().starts_with(EST) {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        *response.body_mut() = format!("{}\n", refusal.detail).into();
    }
    response
}

const EST: &str = "/.well-known/est/";

#[cfg(test)]
#[path = "doors_tests.rs"]
mod tests;
