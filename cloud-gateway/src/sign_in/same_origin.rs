//! Whether a request that a browser sent with a cookie was made by a page of ours. `SameSite` does not tell:
//! a device's own host is another origin of the same site. Pure.

use http::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, ORIGIN},
};
use model::{Code, Refusal};

/// Refuses what a page of another origin may have made the browser send. What changes something must say that it
/// comes from `origin` and carry JSON, which no form of another page can send without being asked first.
pub(crate) fn require(method: &Method, headers: &HeaderMap, origin: &str) -> Result<(), Refusal> {
    require_origin(method, headers, origin)?;
    let is_json = |value: &http::HeaderValue| {
        let text = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        text.eq_ignore_ascii_case("application/json")
    };
    if !method.is_safe() && !headers.get(CONTENT_TYPE).is_none_or(is_json) {
        return Err(Refusal::new(Code::MediaType, "with a cookie this call takes application/json alone"));
    }
    Ok(())
}

/// The same for a form of our own page.
pub(crate) fn require_origin(method: &Method, headers: &HeaderMap, origin: &str) -> Result<(), Refusal> {
    let refused = || {
        let detail = "a cookie counts only for requests of the cloud's own pages; programs show a token";
        Refusal::new(Code::BadRequest, detail).with_status(403)
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    let named = origins.next();
    if origins.next().is_some() || named.is_some_and(|named| named.as_bytes() != origin.as_bytes()) {
        return Err(refused());
    }
    let site = headers.get(FETCH_SITE).map(|value| value.as_bytes());
    match (site, named) {
        (Some(b"same-origin"), _) => Ok(()),
        // Typed into the address bar, or a bookmark.
        (Some(b"none"), _) if method.is_safe() => Ok(()),
        (None, Some(_)) => Ok(()),
        (None, None) if method.is_safe() => Ok(()),
        _ => Err(refused()),
    }
}

/// Whether a browser would show the answer, as far as it says.
pub(crate) fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get(FETCH_MODE).is_none_or(|mode| mode.as_bytes() == b"navigate")
}

const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "https://cloud.example.com";

    fn asked(method: &Method, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        require(method, &map, OURS).is_ok()
    }

    #[test]
    fn reading_is_for_our_pages_and_for_nobodys() {
        for good in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", OURS)],
            &[("origin", OURS), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(asked(&Method::GET, good), "{good:?}");
        }
        for bad in [
            &[("sec-fetch-site", "same-site")][..],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "https://cam-01.cloud.example.com")],
            &[("origin", "null")],
            &[("origin", OURS), ("origin", "https://evil.example")],
            &[("origin", OURS), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!asked(&Method::GET, bad), "{bad:?}");
        }
    }

    #[test]
    fn writing_needs_a_proof_of_origin_and_json() {
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(asked(&Method::POST, &[("origin", OURS), json]));
        assert!(asked(&Method::DELETE, &[("sec-fetch-site", "same-origin")]));
        for bad in [
            &[json][..],
            &[("sec-fetch-site", "none"), json],
            &[("origin", OURS), ("content-type", "text/plain")],
            &[("origin", OURS), ("content-type", "application/x-www-form-urlencoded")],
            &[("origin", "https://cloud.example.com:8443"), json],
            &[("origin", "http://cloud.example.com"), json],
        ] {
            assert!(!asked(&Method::POST, bad), "{bad:?}");
        }
    }
}
