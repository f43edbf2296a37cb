//! Redirects of a device in the path form: they stay under the device's prefix. Pure.

use http::{HeaderValue, uri::Authority};
use url::{Host, Url};

use crate::request::LOCAL_AUTHORITY;

/// A `Location` (RFC 9110 §10.2.2) as the client may follow it.
///
/// What points into the device (a path, or a URL of the local target or of loopback) is moved under the prefix,
/// resolved as a browser would, so that no `..` leads out. What an application built from `X-Forwarded-Prefix` is
/// under it already. Other hosts are left alone: the client's credentials for us do not go there.
pub(crate) fn rewritten(
    location: &HeaderValue,
    prefix: &str,
    forwarded_path: &str,
    authority: &Authority,
) -> Option<HeaderValue> {
    let text = std::str::from_utf8(location.as_bytes()).ok()?;
    // The scheme is the client's: with another one, `https:../x` would be read as another host here, as a path there.
    let root = Url::parse(&format!("https://{LOCAL_AUTHORITY}/")).ok()?;
    // A forwarded path like `//x` names a host where a reference is expected.
    let base = root.join(forwarded_path).ok().filter(|base| base.host() == root.host()).unwrap_or(root);
    let resolved = base.join(text).ok()?;
    if !matches!(resolved.scheme(), "http" | "https") {
        return Some(location.clone());
    }
    let into_cloud = is_host(&resolved, authority.host());
    if !into_cloud && !is_loopback(&resolved) {
        return Some(location.clone());
    }
    let path = &resolved[url::Position::BeforePath..];
    let under =
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    HeaderValue::from_str(&if under { path.to_owned() } else { format!("{prefix}{path}") }).ok()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == LOCAL_AUTHORITY,
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_host(url: &Url, host: &str) -> bool {
    url.host_str().is_some_and(|of_url| of_url.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(location: &str, path: &str) -> String {
        let authority = "cloud.example.com:8443".parse().unwrap();
        let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        super::rewritten(&location, "/d/cam/web", path, &authority).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_redirect_into_the_device_stays_under_its_prefix() {
        for (location, expected) in [
            ("/login?next=/x#top", "/d/cam/web/login?next=/x#top"),
            ("/", "/d/cam/web/"),
            ("other", "/d/cam/web/a/other"),
            ("?q", "/d/cam/web/a/b?q"),
            ("../../../../v1/me", "/d/cam/web/v1/me"),
            ("/../../v1/me", "/d/cam/web/v1/me"),
            ("/%2e%2e/%2E./v1/me", "/d/cam/web/v1/me"),
            ("\\..\\v1/me", "/d/cam/web/v1/me"),
            ("http://localhost/x", "/d/cam/web/x"),
            ("http://localhost:8080/x", "/d/cam/web/x"),
            ("https://127.0.0.1:1/x", "/d/cam/web/x"),
            ("//[::1]/x", "/d/cam/web/x"),
            ("https://cloud.example.com:8443/v1/me", "/d/cam/web/v1/me"),
            ("https://cloud.example.com/d/cam/web/ok", "/d/cam/web/ok"),
            ("/d/cam/web/ok", "/d/cam/web/ok"),
            ("/d/cam/web", "/d/cam/web"),
            ("/d/cam/webx", "/d/cam/web/d/cam/webx"),
            ("/d/cam/web/../other/x", "/d/cam/web/d/cam/other/x"),
            ("/a%2Fb//c", "/d/cam/web/a%2Fb//c"),
        ] {
            assert_eq!(rewritten(location, "/a/b?c"), expected, "{location}");
        }
        assert_eq!(rewritten("x", "//evil.example/a"), "/d/cam/web/x");
    }

    #[test]
    fn a_redirect_elsewhere_is_left_alone() {
        for location in ["https://login.example.com/?back=/x", "//cdn.example.com/y", "mailto:a@b.example"] {
            assert_eq!(rewritten(location, "/"), location);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_redirect_leads_elsewhere_on_our_own_origin(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "/", "..", ".", "%2e%2e", "%2E", "\\", "//", "http:", "https:", "localhost", "cloud.example.com", ":8443",
                "@", "?", "#", "d/cam/web", "d/cam/web/", "v1/me", "x", " ", "\t", ";", "%2F", "%", ":", "[::1]", "127.1",
            ]), 0..9),
            path in proptest::sample::select(vec!["/", "/a/b?c", "//evil/x", "/../..", "/a/"]),
        ) {
            let authority: Authority = "cloud.example.com:8443".parse().unwrap();
            let location = HeaderValue::from_str(&pieces.concat()).unwrap();
            let Some(seen) = super::rewritten(&location, "/d/cam/web", path, &authority) else { return Ok(()) };
            let page = Url::parse(&format!("https://cloud.example.com:8443/d/cam/web{path}")).unwrap();
            if let Ok(target) = page.join(seen.to_str().unwrap())
                && target.origin() == page.origin()
            {
                let under = target.path() == "/d/cam/web" || target.path().starts_with("/d/cam/web/");
                proptest::prop_assert!(under, "{location:?} became {seen:?}, which leads to {target}");
            }
        }
    }

    #[test]
    fn what_is_no_reference_is_dropped() {
        let authority = "cloud.example.com".parse().unwrap();
        let bad = HeaderValue::from_bytes(b"http://[").unwrap();
        assert_eq!(super::rewritten(&bad, "/d/cam/web", "/", &authority), None);
    }
}
