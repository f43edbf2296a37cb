//! One request's way from the door to the device: every step is one call, every no ends it.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use http::{Response, StatusCode, header::AUTHORIZATION, request::Parts};
use hyper::upgrade::OnUpgrade;
use model::{DeviceRef, Level, MethodClass, Refusal, RequestId};
use runtime::{RequestBody, random};
use tcpmux_proto::StreamKind;

use crate::{
    account::{Account, End},
    admit::{self, Admission, Asking},
    answer,
    download::Download,
    forward::{self, Answer, Outgoing},
    navigation::{self, Navigation},
    proxy::Proxy,
    request::{self, Exchange, Ours, Shape},
    response::{self, Source},
    streams::{self, Handshake},
    surroundings::Call,
    target::{self, Asked, Form},
    tickets,
    tokens::ProxyToken,
    trace::Trace,
    upload::Upload,
    visitors::{OpenVisit, Present, Received},
    websocket,
};

/// One request on its way.
pub(crate) struct Visit<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) parts: &'a Parts,
    pub(crate) request_id: &'a RequestId,
    pub(crate) peer: SocketAddr,
}

/// What a caller shows.
struct Shown {
    token: Arc<ProxyToken>,
    /// The visit behind it, where a browser came with its cookie.
    visit: Option<OpenVisit>,
}

/// What becomes of a request that was not refused.
enum Outcome {
    /// Answered here: a preflight, a redirect.
    Here(Response<Body>),
    /// Answered by the device; its body follows on the line.
    Device(Answer),
    /// Switched to another protocol; what goes on then has to be accounted for.
    Switched(Response<Body>, Box<dyn FnOnce(Account) + Send>),
}

impl Visit<'_> {
    /// Walks the whole way and answers.
    pub(crate) async fn answer(
        &self,
        body: RequestBody,
        upgrade: OnUpgrade,
        mut account: Account,
    ) -> Response<Body> {
        let body = Upload::new(body, account.bytes());
        match self.walk(body, upgrade, &mut account).await {
            Ok(Outcome::Here(response)) => {
                account.answered(response.status());
                account.ended(End::Complete);
                response
            }
            Ok(Outcome::Device(Answer { response, first, line })) => {
                account.answered(response.status());
                response.map(|rest| Body::new(Download::new(first, rest, account, line)))
            }
            Ok(Outcome::Switched(response, go_on)) => {
                account.answered(response.status());
                go_on(account);
                response
            }
            Err(refusal) => {
                account.refused(&refusal);
                answer::refusal(&refusal, self.request_id)
            }
        }
    }

    async fn walk(
        &self,
        body: Upload,
        upgrade: OnUpgrade,
        account: &mut Account,
    ) -> Result<Outcome, Refusal> {
        let Proxy { hosts, cors, tokens, browsers, around } = self.proxy;
        let headers = &self.parts.headers;
        if around.tasks.draining().is_cancelled() {
            return Err(answer::draining());
        }
        let mut asked = target::read(hosts, self.parts)?;
        account.form(asked.form);
        if let Some(response) = cors.preflight(&self.parts.method, headers) {
            return Ok(Outcome::Here(response));
        }
        let shape = Shape::read(self.parts, body.is_empty())?;
        if let Navigation::Redirect(response) = navigation::of(hosts, &asked, self.parts)? {
            return Ok(Outcome::Here(response));
        }
        let now = around.clock.now();
        let browsers =
            browsers.as_ref().filter(|_| asked.form == Form::Host && !headers.contains_key(AUTHORIZATION));
        let shown = match (tickets::shown(self.parts.uri.query(), headers, &shape)?, browsers) {
            (Some(ticket), _) => {
                asked.forwarded = tickets::without(&asked.forwarded);
                let token = tickets::take(&around.registry, &ticket, tokens.own_issuer(), now).await?;
                Shown { token: Arc::new(token), visit: None }
            }
            (None, None) => Shown { token: tokens.of_request(headers, now).await?, visit: None },
            (None, Some(browsers)) => {
                let present = Present { hosts, tokens, grants: around.registry.grants(), now };
                match browsers.receive(&asked, self.parts, shape.exchange, &present).await? {
                    Received::Known(token, visit) => Shown { token, visit: Some(visit) },
                    Received::Answered(response) => return Ok(Outcome::Here(response)),
                }
            }
        };
        match asked.form {
            Form::Stream => self.stream(&asked, &shape, &shown, upgrade, account).await,
            Form::Path | Form::Host => self.exchange(&asked, &shape, &shown, body, upgrade, account).await,
        }
    }

    /// An HTTP exchange, which may become a WebSocket.
    async fn exchange(
        &self,
        asked: &Asked,
        shape: &Shape,
        shown: &Shown,
        body: Upload,
        upgrade: OnUpgrade,
        account: &mut Account,
    ) -> Result<Outcome, Refusal> {
        let around = &self.proxy.around;
        let admission = self.admit(asked, shown, shape.class(&self.parts.method)).await?;
        account.admitted(&admission);
        let trace = Trace::of(&self.parts.headers, random::bytes(), random::bytes());
        let stream = around.open(&self.call(&admission, StreamKind::Http, trace.id)).await?;
        let host = stream.host().cloned();
        let ours = Ours {
            asked,
            admission: &admission,
            peer: self.peer,
            request_id: self.request_id,
            trace: &trace,
            host: host.as_ref(),
        };
        let outgoing = Outgoing {
            method: self.parts.method.clone(),
            path: asked.forwarded.clone(),
            headers: request::for_device(&self.parts.headers, shape, &ours),
            body,
        };
        let source = Source { asked, host: host.as_ref(), request_id: self.request_id };
        let lease = admission.lease;
        let Answer { response, first, line } =
            forward::exchange(around, stream, outgoing, shape, lease.clone()).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && shape.exchange == Exchange::WebSocket {
            let (response, go_on) = websocket::switch(around, upgrade, response, line, lease, &source)?;
            return Ok(Outcome::Switched(response, Box::new(go_on)));
        }
        let headers = response::for_client(response.headers(), &source)?;
        let status = response.status();
        let mut response = Response::new(response.into_body());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(Outcome::Device(Answer { response, first, line }))
    }

    /// A raw stream. The device is asked first, so that its no is an HTTP status.
    async fn stream(
        &self,
        asked: &Asked,
        shape: &Shape,
        shown: &Shown,
        upgrade: OnUpgrade,
        account: &mut Account,
    ) -> Result<Outcome, Refusal> {
        let around = &self.proxy.around;
        let handshake = Handshake::read(&self.parts.headers, shape)?;
        let admission = self.admit(asked, shown, MethodClass::Tcp).await?;
        account.admitted(&admission);
        let trace = Trace::of(&self.parts.headers, random::bytes(), random::bytes());
        let stream = around.open_accepted(&self.call(&admission, StreamKind::Tcp, trace.id)).await?;
        let (around, lease) = (around.clone(), admission.lease);
        let go_on = move |account| streams::carry(&around, upgrade, stream, lease, account);
        Ok(Outcome::Switched(handshake.answer(), Box::new(go_on)))
    }

    async fn admit(&self, asked: &Asked, shown: &Shown, class: MethodClass) -> Result<Admission, Refusal> {
        let (around, token) = (&self.proxy.around, &shown.token);
        let is_viewer = token.devices.get(&asked.device).is_some_and(|entry| entry.level == Level::Viewer);
        let viewer_websocket = is_viewer && class == MethodClass::WebSocket && {
            let device = DeviceRef::new(token.tenant.clone(), asked.device.clone());
            let session = around.registry.lookup(&device).await;
            session.is_some_and(|session| session.viewer_websockets.contains(&asked.service))
        };
        let asking = Asking { device: &asked.device, service: &asked.service, class, viewer_websocket };
        let mut admission = admit::admit(token, &asking, around.registry.grants(), around.clock.now())?;
        admission.lease = admission.lease.while_visiting(shown.visit.clone());
        Ok(admission)
    }

    fn call<'a>(&'a self, admission: &'a Admission, kind: StreamKind, trace_id: [u8; 16]) -> Call<'a> {
        Call { admission, kind, request_id: self.request_id, trace_id, peer: self.peer }
    }
}
