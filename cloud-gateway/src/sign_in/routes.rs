//! The addresses of signing in.

use std::{net::IpAddr, sync::Arc};

use axum::{extract::Path, response::Response};
use http::{header::SET_COOKIE, request::Parts};
use model::{Code, Refusal};
use runtime::{
    Clock,
    http::{Caller, ConnectionInfo, Routes, query},
};
use serde::Deserialize;

use super::{
    cookies::{self, LOGIN},
    flow::{ComingBack, Flow},
    handover::Handovers,
    pages, same_origin,
};
use crate::{logins::Logins, users::Users};

/// Signing in and out with a browser.
#[derive(Debug)]
pub(crate) struct SignIn {
    flow: Flow,
    handovers: Arc<Handovers>,
}

#[derive(Debug, Deserialize)]
struct Returning {
    #[serde(rename = "return")]
    to: Option<String>,
}

#[derive(Debug, Deserialize)]
struct HandingOver {
    to: String,
    path: String,
    binding: String,
}

impl SignIn {
    pub(crate) fn new(
        users: Arc<Users>,
        logins: Arc<Logins>,
        handovers: Arc<Handovers>,
        public_url: &str,
        clock: Clock,
    ) -> Arc<Self> {
        let public_url = public_url.trim_end_matches('/').to_owned();
        Arc::new(Self { flow: Flow::new(users, logins, public_url, clock), handovers })
    }

    /// `GET /login`, `/login/{provider}`, `/login/{provider}/callback`, `POST /logout`, `GET /handover`.
    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        let one = || Arc::clone(self);
        let (page, begin, back, out, over) = (one(), one(), one(), one(), one());
        Routes::new()
            .get("/login", Caller::Browser, async move |request: Parts| shown(page.page(&request).await))
            .get(
                "/login/{provider}",
                Caller::Browser,
                async move |Path(name): Path<String>, request: Parts| {
                    shown(begin.begin(&name, &request).await)
                },
            )
            .get(
                "/login/{provider}/callback",
                Caller::Browser,
                async move |Path(name): Path<String>, request: Parts| shown(back.back(&name, &request).await),
            )
            .post("/logout", Caller::Browser, async move |request: Parts| shown(out.out(&request).await))
            .get("/handover", Caller::Browser, async move |request: Parts| shown(over.over(&request).await))
    }

    async fn page(&self, request: &Parts) -> Result<Response, Refusal> {
        let back = returning(request)?;
        let login = match cookies::read(&request.headers, LOGIN) {
            Some(key) => self.flow.logins.of_key(&key).await?,
            None => None,
        };
        if let Some((_, user)) = login {
            if back != HOME {
                return Ok(pages::redirect(&back));
            }
            return Ok(pages::signed_in(user.email().unwrap_or(user.subject())));
        }
        let providers = self.flow.users.providers().for_browsers();
        let providers: Vec<(String, String)> =
            providers.map(|one| (one.name().to_owned(), one.keys.issuer().to_owned())).collect();
        Ok(pages::choice(&providers, &with_return(&back)))
    }

    async fn begin(&self, name: &str, request: &Parts) -> Result<Response, Refusal> {
        require_navigation(request)?;
        self.flow.begin(name, returning(request)?, &request.headers, source(request)).await
    }

    async fn back(&self, name: &str, request: &Parts) -> Result<Response, Refusal> {
        let answer: ComingBack = query(&request.uri)?;
        self.flow.finish(name, answer, &request.headers).await
    }

    async fn out(&self, request: &Parts) -> Result<Response, Refusal> {
        same_origin::require_origin(&request.method, &request.headers, self.flow.logins.origin())?;
        if let Some(key) = cookies::read(&request.headers, LOGIN) {
            self.flow.logins.end(&key).await?;
        }
        let mut response = pages::redirect(HOME);
        response.headers_mut().append(SET_COOKIE, cookies::clear(LOGIN));
        Ok(response)
    }

    async fn over(&self, request: &Parts) -> Result<Response, Refusal> {
        require_navigation(request)?;
        let HandingOver { to, path, binding } = query(&request.uri)?;
        let login = match cookies::read(&request.headers, LOGIN) {
            Some(key) => self.flow.logins.of_key(&key).await?,
            None => None,
        };
        let Some((login, user)) = login else {
            let here = request.uri.path_and_query().map_or(HOME, |whole| whole.as_str());
            return Ok(pages::redirect(&format!("{HOME}{}", with_return(here))));
        };
        Ok(pages::redirect(&self.handovers.address(&login, &user, &to, path, &binding).await?))
    }
}

/// Where to go after signing in: back to a hand-over, or to the page itself. No other address is possible.
fn returning(request: &Parts) -> Result<String, Refusal> {
    let Returning { to } = query(&request.uri)?;
    let is_ours = |to: &String| {
        to.starts_with(HANDOVER) && to.len() <= 8192 && to.bytes().all(|byte| byte.is_ascii_graphic())
    };
    Ok(to.filter(is_ours).unwrap_or_else(|| HOME.to_owned()))
}

fn with_return(back: &str) -> String {
    if back == HOME {
        return String::new();
    }
    let encoded: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
    format!("?return={encoded}")
}

/// No script of another page may walk this way unseen.
fn require_navigation(request: &Parts) -> Result<(), Refusal> {
    if same_origin::is_navigation(&request.headers) {
        return Ok(());
    }
    Err(Refusal::new(Code::BadRequest, "this address is for browsers to be sent to, not for scripts"))
}

fn source(request: &Parts) -> IpAddr {
    let connection = request.extensions.get::<ConnectionInfo>();
    connection.map_or(IpAddr::from([0; 4]), |connection| connection.peer.ip())
}

fn shown(outcome: Result<Response, Refusal>) -> Response {
    outcome.unwrap_or_else(|refusal| pages::trouble(&refusal, HOME))
}

const HOME: &str = "/login";
const HANDOVER: &str = "/handover?";
