//! Route tables: what a room answers, and to whom, in a form that can be listed and tested.

use axum::{
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;

/// Who may call a route. The door puts the guard in front; without one in this list there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Anybody, without proof.
    Anyone,
    /// A device with a passcode; the room checks it.
    Passcode,
    /// A device with a client certificate, also a retired or expired one; the room decides.
    Certificate,
    /// A browser that signs in or out; the gateway's own pages read its cookies.
    Browser,
    /// A person whose provider vouches; the handler finds a `UserActor` in the extensions.
    User,
    /// A person who listens to events, by a provider's token or a proxy token; the handler finds a
    /// `SubscriberActor` in the extensions.
    Subscriber,
    /// Whoever opens a WebSocket with a single-use ticket; the handler finds a `SubscriberActor` in the extensions.
    Ticket,
    /// Whoever shows a proxy token; the proxy checks it.
    ProxyToken,
    /// A device, by its token or its certificate; the handler finds a `DeviceActor` in the extensions.
    Device,
    /// A device by its certificate alone: for what nobody may do who only read a token. The handler finds a
    /// `DeviceActor` in the extensions.
    DeviceCertificate,
    /// An operator with the admin key; the handler finds an `AdminActor` in the extensions.
    Admin,
}

/// A route, as the inventory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// The method; GET answers HEAD too.
    pub method: Method,
    /// The path in axum's notation, as in `/v1/devices/{id}`.
    pub path: &'static str,
    /// Who may call it.
    pub caller: Caller,
}

/// A route and what answers it.
#[derive(Debug, Clone)]
pub struct Route {
    /// The route.
    pub spec: RouteSpec,
    /// What answers it.
    pub handler: MethodRouter,
}

/// The routes of a room at one door.
#[derive(Debug, Clone, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a GET (and HEAD) route.
    #[must_use]
    pub fn get<H: Handler<T, ()>, T: 'static>(self, path: &'static str, caller: Caller, handler: H) -> Self {
        self.add(Method::GET, path, caller, on(MethodFilter::GET, handler))
    }

    /// Adds a POST route.
    #[must_use]
    pub fn post<H: Handler<T, ()>, T: 'static>(self, path: &'static str, caller: Caller, handler: H) -> Self {
        self.add(Method::POST, path, caller, on(MethodFilter::POST, handler))
    }

    /// Adds a PUT route.
    #[must_use]
    pub fn put<H: Handler<T, ()>, T: 'static>(self, path: &'static str, caller: Caller, handler: H) -> Self {
        self.add(Method::PUT, path, caller, on(MethodFilter::PUT, handler))
    }

    /// Adds a PATCH route.
    #[must_use]
    pub fn patch<H: Handler<T, ()>, T: 'static>(
        self,
        path: &'static str,
        caller: Caller,
        handler: H,
    ) -> Self {
        self.add(Method::PATCH, path, caller, on(MethodFilter::PATCH, handler))
    }

    /// Adds a DELETE route.
    #[must_use]
    pub fn delete<H: Handler<T, ()>, T: 'static>(
        self,
        path: &'static str,
        caller: Caller,
        handler: H,
    ) -> Self {
        self.add(Method::DELETE, path, caller, on(MethodFilter::DELETE, handler))
    }

    /// The routes of both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What is in the table.
    pub fn specs(&self) -> Vec<RouteSpec> {
        self.0.iter().map(|route| route.spec.clone()).collect()
    }

    /// The routes themselves, for the door that mounts them.
    pub fn into_routes(self) -> Vec<Route> {
        self.0
    }

    fn add(mut self, method: Method, path: &'static str, caller: Caller, handler: MethodRouter) -> Self {
        self.0.push(Route { spec: RouteSpec { method, path, caller }, handler });
        self
    }
}
