//! Whether a request with a device host's cookie comes from that host's own pages, or from a person. Every other
//! device's host is of the same site, so that `SameSite` alone keeps no device's pages from another's. Pure.

use http::{HeaderMap, header::ORIGIN, request::Parts, uri::Authority};
use model::{Code, Refusal};

use crate::request::Exchange;

/// Refuses what a page of another origin made the browser send: reading is for own pages and for a person who
/// follows a link; writing and WebSockets must say that they come from this origin.
pub(crate) fn require(parts: &Parts, exchange: Exchange, authority: &Authority) -> Result<(), Refusal> {
    let headers = &parts.headers;
    let refused = || {
        let detail = "at a device's own host a cookie counts only for requests of its own pages";
        Err(Refusal::new(Code::BadRequest, detail).with_status(403))
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next();
    if origins.next().is_some() || origin.is_some_and(|origin| origin.as_bytes() != own(authority).as_bytes())
    {
        return refused();
    }
    let only_reads = parts.method.is_safe() && exchange == Exchange::Plain;
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_link = only_reads
        && is(headers, "sec-fetch-mode", b"navigate")
        && is(headers, "sec-fetch-dest", b"document");
    match (site, origin) {
        // A browser's WebSocket names its origin whatever else it says.
        (Some(b"same-origin"), None) if exchange == Exchange::WebSocket => refused(),
        (Some(b"same-origin"), _) => Ok(()),
        (Some(b"none"), _) if only_reads => Ok(()),
        (Some(_), _) if is_link => Ok(()),
        (None, Some(_)) => Ok(()),
        (None, None) if only_reads => Ok(()),
        _ => refused(),
    }
}

/// Whether a browser would show the answer; `otherwise` where it does not say.
pub(crate) fn is_navigation(headers: &HeaderMap, otherwise: bool) -> bool {
    headers.get("sec-fetch-mode").map_or(otherwise, |mode| mode.as_bytes() == b"navigate")
}

/// As a browser writes the origin of this host's pages.
fn own(authority: &Authority) -> String {
    let port = authority.port_u16().filter(|port| *port != 443).map(|port| format!(":{port}"));
    format!("https://{}{}", authority.host().to_ascii_lowercase(), port.unwrap_or_default())
}

fn is(headers: &HeaderMap, name: &str, value: &[u8]) -> bool {
    headers.get(name).is_some_and(|found| found.as_bytes() == value)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: &str, exchange: Exchange, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        require(&parts, exchange, &"Cam-01.dev.example:8443".parse().unwrap()).is_ok()
    }

    const OURS: (&str, &str) = ("origin", "https://cam-01.dev.example:8443");
    const NEIGHBOUR: (&str, &str) = ("origin", "https://cam-02.dev.example:8443");

    #[test]
    fn reading_is_for_own_pages_and_for_people() {
        for good in [
            &[][..],
            &[OURS],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ] {
            assert!(asked("GET", Exchange::Plain, good), "{good:?}");
        }
        for bad in [
            &[NEIGHBOUR][..],
            &[("origin", "null")],
            &[OURS, NEIGHBOUR],
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        ] {
            assert!(!asked("GET", Exchange::Plain, bad), "{bad:?}");
        }
    }

    #[test]
    fn writing_and_websockets_say_where_they_come_from() {
        for (method, exchange) in
            [("POST", Exchange::Plain), ("DELETE", Exchange::Plain), ("GET", Exchange::WebSocket)]
        {
            assert!(asked(method, exchange, &[OURS]));
            assert!(asked(method, exchange, &[OURS, ("sec-fetch-site", "same-origin")]));
            for bad in [
                &[][..],
                &[NEIGHBOUR],
                &[("sec-fetch-site", "none")],
                &[("sec-fetch-site", "same-site")],
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
            ] {
                assert!(!asked(method, exchange, bad), "{method} {bad:?}");
            }
        }
        assert!(!asked("GET", Exchange::WebSocket, &[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        assert_eq!(own(&"A.b:443".parse().unwrap()), "https://a.b");
        assert_eq!(own(&"a.b".parse().unwrap()), "https://a.b");
    }
}
