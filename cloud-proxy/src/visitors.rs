//! Browsers of signed-in people at a device's own host.
//!
//! A browser without a visit is sent to the cloud's origin, where its login is, and comes back with a one-time code
//! that becomes a cookie of this host alone. Whom the cookie speaks for is not decided here: [`Visitors`] is asked,
//! which the roof joins to the room that knows logins, and answers with a proxy token that is checked like any
//! other. So there is no SQL and no signing key here, no token ever lies in a browser, a page works on for as long
//! as its login, and a grant that changes or a person who signs out counts at once.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE},
    request::Parts,
};
use model::{Code, DeviceId, Refusal, Secret, Timestamp, host_label};
use registry::GrantView;
use runtime::{jose::TokenError, random};
use url::form_urlencoded;

use crate::{
    cookies, own_origin,
    request::Exchange,
    target::{Asked, Hosts},
    tokens::{ProxyToken, Tokens},
};

/// A future of the room that knows logins.
pub type VisitorFuture<'a, T> = Pin<Box<dyn Future<Output = Result<Option<T>, Refusal>> + Send + 'a>>;

/// Who knows logins. `None` says that the code or the visit is not, or no longer, good at this host; an error that
/// nobody can tell just now.
pub trait Visitors: Send + Sync {
    /// A code is shown at the host of this label, by a browser that holds what `binding` is the SHA-256 of, in hex.
    fn redeem<'a>(&'a self, code: &'a str, label: &'a str, binding: &'a str) -> VisitorFuture<'a, Welcome>;

    /// A proxy token for the person of a visit at the host of this label.
    fn token<'a>(&'a self, visit: &'a str, label: &'a str) -> VisitorFuture<'a, String>;

    /// Whether the visit at the host of this label goes on, for what was opened with it.
    fn goes_on<'a>(&'a self, visit: &'a str, label: &'a str) -> VisitorFuture<'a, ()>;

    /// Grows whenever a visit ends before its time: what is remembered is asked again.
    fn ended(&self) -> u64;
}

/// What a browser gets for its code.
#[derive(Debug)]
pub struct Welcome {
    /// For its cookie: visible ASCII without `;`.
    pub visit: Secret<String>,
    /// Where it wanted to be: a path and query that begin with `/`.
    pub path: String,
    /// How long the cookie is worth keeping.
    pub life: Duration,
}

/// How browsers get in.
#[derive(Clone)]
pub struct SignIn {
    /// The address at the cloud's own origin that gives codes, as in `https://cloud.example.com/handover`.
    pub handover: String,
    /// Who knows logins.
    pub visitors: Arc<dyn Visitors>,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("handover", &self.handover).finish_non_exhaustive()
    }
}

/// What becomes of a browser's request.
pub(crate) enum Received {
    /// It goes on, with this token, and what is opened now for as long as the visit.
    Known(Arc<ProxyToken>, OpenVisit),
    /// It is answered here: sent somewhere.
    Answered(Response<Body>),
}

/// The visit that a stream was opened with. Its proxy token lives on after a sign-out, the visit does not.
#[derive(Clone)]
pub(crate) struct OpenVisit(Arc<Opened>);

struct Opened {
    visitors: Arc<dyn Visitors>,
    visit: Secret<String>,
    label: String,
}

impl OpenVisit {
    /// Whether it is over for certain. While nobody can tell, it goes on.
    pub(crate) async fn is_over(&self) -> bool {
        let Opened { visitors, visit, label } = &*self.0;
        matches!(visitors.goes_on(visit.expose(), label).await, Ok(None))
    }
}

impl fmt::Debug for OpenVisit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenVisit").field("label", &self.0.label).finish_non_exhaustive()
    }
}

/// The browsers at the hosts of devices.
pub(crate) struct Browsers {
    sign_in: SignIn,
    /// By the digest of the visit; bounded by [`KNOWN`].
    known: Mutex<HashMap<[u8; 32], Known>>,
}

#[derive(Clone)]
struct Known {
    token: Arc<ProxyToken>,
    ended: u64,
    again_at: Timestamp,
}

/// What the present is judged by.
pub(crate) struct Present<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) tokens: &'a Tokens,
    pub(crate) grants: &'a GrantView,
    pub(crate) now: Timestamp,
}

impl Browsers {
    pub(crate) fn new(sign_in: SignIn) -> Self {
        Self { sign_in, known: Mutex::default() }
    }

    /// A request in the host form that shows no token.
    pub(crate) async fn receive(
        &self,
        asked: &Asked,
        parts: &Parts,
        exchange: Exchange,
        present: &Present<'_>,
    ) -> Result<Received, Refusal> {
        let label = host_label(&asked.device, &asked.service).ok_or(TokenError::Missing)?;
        if asked.forwarded.path() == HANDOVER_PATH {
            return self.welcome(&label, asked, parts).await.map(Received::Answered);
        }
        let visit = cookies::ours(&parts.headers, VISIT);
        if let Some(visit) = visit {
            own_origin::require(parts, exchange, &asked.authority)?;
            if let Some(token) = self.token(visit, &label, &asked.device, present).await? {
                let visitors = Arc::clone(&self.sign_in.visitors);
                let visit = Secret::new(visit.to_owned());
                return Ok(Received::Known(token, OpenVisit(Arc::new(Opened { visitors, visit, label }))));
            }
        }
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        if is_read
            && exchange == Exchange::Plain
            && own_origin::is_navigation(&parts.headers, wants_page(&parts.headers))
        {
            return self.send_to_cloud(&label, asked, &parts.headers, present.hosts).map(Received::Answered);
        }
        // A script learns that its page has to be loaded again.
        Err(if visit.is_some() { TokenError::Expired } else { TokenError::Missing }.into())
    }

    async fn token(
        &self,
        visit: &str,
        label: &str,
        device: &DeviceId,
        present: &Present<'_>,
    ) -> Result<Option<Arc<ProxyToken>>, Refusal> {
        // The label belongs to it: what is remembered of one host must not be found at another.
        let key = sha256(format!("{label} {visit}").as_bytes());
        let ended = self.sign_in.visitors.ended();
        let alive = |known: &Known| {
            let until = known.token.expires_at.min(known.token.until);
            known.ended == ended && present.now < until && !is_outdated(&known.token, device, present.grants)
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let known = known.filter(alive);
        if let Some(known) = known.as_ref().filter(|known| present.now < known.again_at) {
            return Ok(Some(Arc::clone(&known.token)));
        }
        let text = match self.sign_in.visitors.token(visit, label).await {
            Ok(Some(text)) => text,
            Ok(None) => {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                return Ok(None);
            }
            // Nobody can tell just now: what was known a moment ago holds until its own end.
            Err(refusal) => return known.map(|known| Some(known.token)).ok_or(refusal),
        };
        let token = present.tokens.of_text(&text, present.now).await?;
        let fresh = Known { token: Arc::clone(&token), ended, again_at: present.now.plus(ASKED_EVERY) };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN {
            all.retain(|_, known| present.now < known.again_at);
        }
        if all.len() >= KNOWN {
            // Asking again costs less than keeping an order of use.
            all.clear();
        }
        all.insert(key, fresh);
        Ok(Some(token))
    }

    /// To the cloud's origin, with the digest of a secret that stays in a cookie of this host. So nobody can have a
    /// browser come in here with a code that was given to another browser.
    fn send_to_cloud(
        &self,
        label: &str,
        asked: &Asked,
        headers: &HeaderMap,
        hosts: &Hosts,
    ) -> Result<Response<Body>, Refusal> {
        let host = hosts.host_form(&asked.device, &asked.service).unwrap_or_default();
        if !asked.authority.host().eq_ignore_ascii_case(&host) {
            // Another way of writing it is another origin for a browser.
            return redirect(&format!("https://{host}{}{}", port(asked), asked.forwarded));
        }
        // Kept where it is there already, so that two tabs do not end each other's way.
        let secret = cookies::ours(headers, COMING).filter(|text| is_key(text)).map(str::to_owned);
        let secret = secret.unwrap_or_else(|| model::hex(&random::bytes::<32>()));
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("to", label)
            .append_pair("path", asked.forwarded.as_str())
            .append_pair("binding", &model::hex(&sha256(secret.as_bytes())))
            .finish();
        let mut response = redirect(&format!("{}?{query}", self.sign_in.handover))?;
        response.headers_mut().append(SET_COOKIE, cookie(COMING, &secret, COMING_LIFE)?);
        Ok(response)
    }

    async fn welcome(&self, label: &str, asked: &Asked, parts: &Parts) -> Result<Response<Body>, Refusal> {
        let refused = || {
            let detail = "this way in was used already, is over, or belongs to another browser or host; open the device's address again";
            Refusal::new(Code::BadRequest, detail)
        };
        if parts.method != Method::GET {
            return Err(Refusal::new(Code::NoSuchRoute, "this address takes GET alone").with_status(405));
        }
        let query = asked.forwarded.query().unwrap_or_default();
        let mut codes = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "code");
        let (Some((_, code)), None) = (codes.next(), codes.next()) else { return Err(refused()) };
        let secret = cookies::ours(&parts.headers, COMING).filter(|text| is_key(text)).ok_or_else(refused)?;
        let binding = model::hex(&sha256(secret.as_bytes()));
        let welcome = self.sign_in.visitors.redeem(&code, label, &binding).await?.ok_or_else(refused)?;
        let mut response = redirect(&format!("https://{}{}", asked.authority, welcome.path))?;
        let headers = response.headers_mut();
        headers.append(SET_COOKIE, cookie(VISIT, welcome.visit.expose(), welcome.life)?);
        headers.append(SET_COOKIE, cookie(COMING, "", Duration::ZERO)?);
        Ok(response)
    }
}

/// Whether the rights on the device changed after the token was minted.
fn is_outdated(token: &ProxyToken, device: &DeviceId, grants: &GrantView) -> bool {
    let (Some(user), Some(minted)) = (&token.user, token.grant_sequence) else { return false };
    grants.last_change(&token.tenant, user, device).is_some_and(|change| change > minted)
}

fn redirect(to: &str) -> Result<Response<Body>, Refusal> {
    let location = HeaderValue::try_from(to)
        .map_err(|_| Refusal::new(Code::BadRequest, "this path cannot be redirected to"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// Lax and not Strict: a person comes here by links, and by the way back from the provider.
fn cookie(name: &str, value: &str, life: Duration) -> Result<HeaderValue, Refusal> {
    let text = format!("{name}={value}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax", life.as_secs());
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Refusal::new(Code::Internal, "something here is broken; the server's log says what"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// For browsers that do not tell what kind of request it is.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|text| text.contains("text/html"))
}

fn port(asked: &Asked) -> String {
    asked.authority.port().map(|port| format!(":{port}")).unwrap_or_default()
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Where a code is shown, at every device's host.
const HANDOVER_PATH: &str = "/.tcpmux/handover";
/// What a browser holds at a device's host.
const VISIT: &str = "__Host-tcpmux-visit";
/// What binds a code to the browser that it is for.
const COMING: &str = "__Host-tcpmux-coming";
/// A sign-in may lie between.
const COMING_LIFE: Duration = Duration::from_secs(900);
const ASKED_EVERY: Duration = Duration::from_secs(60);
const KNOWN: usize = 4096;

#[cfg(test)]
#[path = "visitors_tests.rs"]
mod tests;
