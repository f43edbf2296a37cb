//! Browser apps of other origins: preflights are answered before anybody asks who is calling. Pure.

use axum::body::Body;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

/// The origins whose pages may call.
///
/// Credentials are never allowed along: callers show a token, which no page can borrow.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// Allows these origins, written as browsers write them: `https://app.example.com`.
    pub fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    /// The answer to a preflight of an allowed origin; `None` for any other request.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let origin = self.allowed(headers)?;
        let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
        if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        answer.insert(
            VARY,
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        Some(response)
    }

    /// The origin of a request, if it is an allowed one.
    pub fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
    }

    /// Lets a page of an allowed origin read an answer; `origin` is what [`Self::allowed`] gave for the request.
    pub fn open(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        answer.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
            answer.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, "PUT".parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-a".parse().unwrap());
        headers
    }

    #[test]
    fn a_preflight_of_a_configured_origin_is_answered() {
        let cors = Cors::new(vec!["https://app.example.com".into()]);
        let answer = cors.preflight(&Method::OPTIONS, &request("https://app.example.com")).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "authorization,x-a");
        assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn no_other_origin_and_no_other_method_gets_one() {
        let cors = Cors::new(vec!["https://app.example.com".into()]);
        for origin in ["https://app.example.com.evil.example", "http://app.example.com", "null", "*"] {
            assert!(cors.preflight(&Method::OPTIONS, &request(origin)).is_none(), "{origin}");
        }
        assert!(cors.preflight(&Method::PUT, &request("https://app.example.com")).is_none());
        assert!(Cors::default().preflight(&Method::OPTIONS, &request("https://app.example.com")).is_none());
    }

    #[test]
    fn an_answer_is_opened_to_an_allowed_origin_alone() {
        let cors = Cors::new(vec!["https://app.example.com".into()]);
        let mut answer = HeaderMap::new();
        cors.open(cors.allowed(&request("https://evil.example")), &mut answer);
        assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        cors.open(cors.allowed(&request("https://app.example.com")), &mut answer);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
    }
}
