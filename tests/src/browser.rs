//! A browser, as far as signing in needs one: cookies by host, redirects, forms, and what Fetch Metadata tells.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use crate::Door;

/// A browser whose every `https` address leads to one door, as if DNS said so.
#[derive(Debug)]
pub struct Browser {
    door: Door,
    cookies: BTreeMap<String, Vec<Cookie>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cookie {
    name: String,
    value: String,
    path: String,
}

/// What a browser shows after a call.
#[derive(Debug)]
pub struct Page {
    /// Where it is.
    pub url: Url,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its text.
    pub text: String,
}

impl Browser {
    /// A new browser without cookies.
    pub fn new(door: Door) -> Self {
        Self { door, cookies: BTreeMap::new() }
    }

    /// Goes to an address as a person who typed it, and on wherever it is sent.
    pub async fn open(&mut self, url: &str) -> Page {
        let page = self.visit(url).await;
        self.follow(page).await
    }

    /// Goes to an address and stays for its first answer.
    pub async fn visit(&mut self, url: &str) -> Page {
        let navigation =
            [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html")];
        self.call(Method::GET, &Url::parse(url).unwrap(), &navigation, "").await
    }

    /// Goes where a page sends it, at most twenty times.
    ///
    /// # Panics
    /// If it is sent around for longer.
    pub async fn follow(&mut self, mut page: Page) -> Page {
        for _ in 0..20 {
            match page.location() {
                Some(next) => page = self.visit(next.as_str()).await,
                None => return page,
            }
        }
        panic!("sent around without end, last to {}", page.url);
    }

    /// Sends the first form of a page with these fields beside its hidden ones, and goes on.
    pub async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let form =
            between(&page.text, "<form", "</form>").unwrap_or_else(|| panic!("no form in {}", page.text));
        let action = attribute(form, "action").unwrap_or_default().replace("&amp;", "&");
        let action = page.url.join(&action).unwrap();
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        for input in form.split("<input").skip(1) {
            let input = &input[..input.find('>').unwrap_or(input.len())];
            if attribute(input, "type") == Some("hidden") {
                body.append_pair(
                    attribute(input, "name").unwrap(),
                    attribute(input, "value").unwrap_or_default(),
                );
            }
        }
        let body = body.extend_pairs(fields).finish();
        let origin = page.url.origin().ascii_serialization();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", origin.as_str()),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
        ];
        let answer = self.call(Method::POST, &action, &headers, &body).await;
        self.follow(answer).await
    }

    /// One call with the cookies of the host, and these headers.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn call(&mut self, method: Method, url: &Url, headers: &[(&str, &str)], body: &str) -> Page {
        let host = url.host_str().unwrap().to_owned();
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target = format!("{target}?{query}");
        }
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let cookies: Vec<String> = self
            .cookies
            .get(&host)
            .into_iter()
            .flatten()
            .filter(|cookie| url.path().starts_with(&cookie.path))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        let (status, answered, text) = if url.scheme() == "https" {
            let mut call = self.door.call(method, &target).header("host", &authority);
            for (name, value) in headers {
                call = call.header(name, value);
            }
            if !cookies.is_empty() {
                call = call.header("cookie", cookies.join("; "));
            }
            let answer = call.body(body.to_owned()).send().await;
            (answer.status, answer.headers.clone(), answer.text().await)
        } else {
            let mut request = Request::builder().method(method).uri(&target).header(header::HOST, &authority);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if !cookies.is_empty() {
                request = request.header(header::COOKIE, cookies.join("; "));
            }
            plain(&authority, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
        };
        for value in answered.get_all(header::SET_COOKIE) {
            self.keep(&host, url, value.to_str().unwrap());
        }
        Page { url: url.clone(), status, headers: answered, text }
    }

    /// The value of a cookie at a host.
    pub fn cookie(&self, host: &str, name: &str) -> Option<&str> {
        let cookie = self.cookies.get(host)?.iter().find(|cookie| cookie.name == name)?;
        Some(&cookie.value)
    }

    /// Puts a cookie where a browser would not have let it come, for tests of what happens then.
    pub fn put_cookie(&mut self, host: &str, name: &str, value: &str) {
        let cookies = self.cookies.entry(host.to_owned()).or_default();
        cookies.retain(|cookie| cookie.name != name);
        cookies.push(Cookie { name: name.into(), value: value.into(), path: "/".into() });
    }

    /// Forgets a host's cookie.
    pub fn drop_cookie(&mut self, host: &str, name: &str) {
        if let Some(cookies) = self.cookies.get_mut(host) {
            cookies.retain(|cookie| cookie.name != name);
        }
    }

    /// As RFC 6265bis has it, as far as it matters here.
    fn keep(&mut self, host: &str, url: &Url, text: &str) {
        let mut parts = text.split(';').map(str::trim);
        let (name, value) = parts.next().unwrap().split_once('=').unwrap_or_default();
        let attributes: BTreeMap<String, &str> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(key, value)| (key.to_ascii_lowercase(), value))
            .collect();
        let path = attributes.get("path").copied().unwrap_or("/").to_owned();
        if name.starts_with("__Host-") {
            let is_host_bound = url.scheme() == "https"
                && attributes.contains_key("secure")
                && !attributes.contains_key("domain")
                && path == "/";
            assert!(is_host_bound, "a browser drops {text}");
        }
        let is_over = attributes.get("max-age") == Some(&"0")
            || attributes.get("expires").is_some_and(|date| date.contains("1970"));
        let cookies = self.cookies.entry(host.to_owned()).or_default();
        cookies.retain(|cookie| cookie.name != name || cookie.path != path);
        if !is_over {
            cookies.push(Cookie { name: name.into(), value: value.into(), path });
        }
    }
}

impl Page {
    /// Where it sends the browser.
    pub fn location(&self) -> Option<Url> {
        let location = self.headers.get(header::LOCATION).filter(|_| self.status.is_redirection())?;
        Some(self.url.join(location.to_str().unwrap()).unwrap())
    }

    /// Asserts the status, showing the page otherwise.
    ///
    /// # Panics
    /// If it is another.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.url, self.text);
        self
    }

    /// A parameter of an address.
    pub fn parameter(url: &Url, name: &str) -> Option<String> {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

async fn plain(authority: &str, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, String) {
    let socket = TcpStream::connect(authority).await.unwrap_or_else(|error| panic!("{authority}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let begin = text.find(from)?;
    let end = text[begin..].find(to)?;
    Some(&text[begin..begin + end])
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let begin = tag.find(&format!("{name}=\""))? + name.len() + 2;
    Some(&tag[begin..begin + tag[begin..].find('"')?])
}
