//! Browser navigations: the path form is for programs, pages belong on the device's own host. Pure.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header::LOCATION, request::Parts};
use model::{Code, Refusal};

use crate::target::{Asked, Form, Hosts};

/// What to do with a request that is a browser's navigation.
#[derive(Debug)]
pub(crate) enum Navigation {
    /// It is none, or it is where it belongs.
    None,
    /// It belongs on the host form.
    Redirect(Response<Body>),
}

/// Looks at a request. In the path form the device would share the cloud's origin, so no page is shown there.
pub(crate) fn of(hosts: &Hosts, asked: &Asked, parts: &Parts) -> Result<Navigation, Refusal> {
    if asked.form == Form::Host || !is_navigation(&parts.headers) {
        return Ok(Navigation::None);
    }
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    match hosts.host_form(&asked.device, &asked.service).filter(|_| is_read && asked.form == Form::Path) {
        Some(host) => Ok(Navigation::Redirect(redirect(&host, asked)?)),
        None => Err(Refusal::new(
            Code::BadRequest,
            "this address is for programs; pages of a device are shown at its own host name, where the cloud has a device_domain",
        )),
    }
}

fn redirect(host: &str, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let port = asked.authority.port().map(|port| format!(":{port}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("https://{host}{port}{}", asked.forwarded))
        .map_err(|_| Refusal::new(Code::BadRequest, "this path cannot be redirected to"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Whether a browser would show the answer (Fetch Metadata; every browser of the last years sends it).
fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name: &str, values: &[&str]| {
        headers.get(name).is_some_and(|value| values.iter().any(|one| value.as_bytes() == one.as_bytes()))
    };
    is("sec-fetch-mode", &["navigate"])
        || is("sec-fetch-dest", &["document", "iframe", "frame", "embed", "object"])
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::target;

    fn outcome(
        domain: Option<&str>,
        uri: &str,
        host: &str,
        fetch: &[(&str, &str)],
    ) -> Result<Navigation, Refusal> {
        let hosts = Hosts { cloud: vec!["cloud.example.com".into()], device_domain: domain.map(Into::into) };
        let mut request = Request::builder().uri(uri).header("host", host);
        for (name, value) in fetch {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        of(&hosts, &target::read(&hosts, &parts).unwrap(), &parts)
    }

    #[test]
    fn a_page_in_the_path_form_is_refused_or_sent_to_the_devices_host() {
        for fetch in
            [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), ("sec-fetch-dest", "document")]
        {
            let refused = outcome(None, "/d/cam/web/x", "cloud.example.com", &[fetch]);
            assert_eq!(refused.unwrap_err().code, Code::BadRequest);
            let sent = outcome(Some("dev.example.com"), "/d/cam/api/x?y", "cloud.example.com:8443", &[fetch]);
            let Ok(Navigation::Redirect(sent)) = sent else { panic!("{sent:?}") };
            assert_eq!(sent.headers()[LOCATION], "https://api--cam.dev.example.com:8443/x?y");
        }
    }

    #[test]
    fn programs_and_the_host_form_are_let_through() {
        let none = |outcome| assert!(matches!(outcome, Ok(Navigation::None)));
        none(outcome(None, "/d/cam/web/x", "cloud.example.com", &[]));
        let fetch = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
        none(outcome(None, "/d/cam/web/x", "cloud.example.com", &fetch));
        none(outcome(
            Some("dev.example.com"),
            "/x",
            "cam.dev.example.com",
            &[("sec-fetch-mode", "navigate")],
        ));
    }
}
