//! Redirects of a device, which knows itself by another name than its clients do. Pure.

use http::{HeaderValue, uri::Authority};
use tcpmux_proto::{LocalAuthority, LocalHost};
use url::{Host, Position, Url};

use crate::{request::LOCAL_AUTHORITY, target::Asked};

/// A `Location` (RFC 9110 §10.2.2) as the client may follow it; `None` for what is no reference.
///
/// In the path form, what points into the device (a path, or a URL of the service's own name, of loopback or of this
/// origin) is moved under the prefix, resolved as a browser would, so that no `..` leads out. What an application
/// built from `X-Forwarded-Prefix` is under it already. In the host form only a service that was given a name of its
/// own can mean itself and not say so. Other hosts are left alone: the client's credentials for us do not go there.
pub(crate) fn rewritten(
    location: &HeaderValue,
    asked: &Asked,
    host: Option<&LocalHost>,
) -> Option<HeaderValue> {
    let own = host.map(|host| &host.authority);
    match &asked.prefix {
        Some(prefix) => under_prefix(location, prefix, asked, own),
        None => match host {
            Some(host) if host.fixed => at_the_clients_host(location, &asked.authority, &host.authority),
            _ => Some(location.clone()),
        },
    }
}

fn under_prefix(
    location: &HeaderValue,
    prefix: &str,
    asked: &Asked,
    own: Option<&LocalAuthority>,
) -> Option<HeaderValue> {
    let text = std::str::from_utf8(location.as_bytes()).ok()?;
    // The scheme is the client's: with another one, `https:../x` would be read as another host here, as a path there.
    let root = Url::parse(&format!("https://{LOCAL_AUTHORITY}/")).ok()?;
    // A forwarded path like `//x` names a host where a reference is expected.
    let forwarded = asked.forwarded.as_str();
    let base = root.join(forwarded).ok().filter(|base| base.host() == root.host()).unwrap_or(root);
    let resolved = base.join(text).ok()?;
    if !matches!(resolved.scheme(), "http" | "https") {
        return Some(location.clone());
    }
    let into_cloud = is_host(&resolved, asked.authority.host());
    if !into_cloud && !is_loopback(&resolved) && !own.is_some_and(|own| is_own(&resolved, own)) {
        return Some(location.clone());
    }
    let path = &resolved[Position::BeforePath..];
    let under =
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    HeaderValue::from_str(&if under { path.to_owned() } else { format!("{prefix}{path}") }).ok()
}

/// References without a host mean the client's host already.
fn at_the_clients_host(
    location: &HeaderValue,
    client: &Authority,
    own: &LocalAuthority,
) -> Option<HeaderValue> {
    let text = std::str::from_utf8(location.as_bytes()).ok()?;
    let resolved = Url::parse(&format!("https://{client}/")).ok()?.join(text).ok()?;
    if matches!(resolved.scheme(), "http" | "https") && is_own(&resolved, own) {
        HeaderValue::from_str(&format!("https://{client}{}", &resolved[Position::BeforePath..])).ok()
    } else {
        Some(location.clone())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == LOCAL_AUTHORITY,
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Another port of the same host is another service.
fn is_own(url: &Url, own: &LocalAuthority) -> bool {
    let own = Url::parse(&format!("{}://{own}/", url.scheme()));
    own.is_ok_and(|own| own.host() == url.host() && own.port() == url.port())
}

fn is_host(url: &Url, host: &str) -> bool {
    url.host_str().is_some_and(|of_url| of_url.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Form;

    fn asked(form: Form, path: &str) -> Asked {
        let host = if form == Form::Path { "cloud.example.com:8443" } else { "cam.dev.example.com:8443" };
        Asked {
            form,
            device: "cam".parse().unwrap(),
            service: "web".parse().unwrap(),
            forwarded: path.parse().unwrap(),
            prefix: (form == Form::Path).then(|| "/d/cam/web".to_owned()),
            authority: host.parse().unwrap(),
        }
    }

    fn of(authority: &str, fixed: bool) -> LocalHost {
        LocalHost { authority: authority.parse().unwrap(), fixed }
    }

    fn seen(form: Form, path: &str, host: &LocalHost, location: &str) -> String {
        let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        let seen = super::rewritten(&location, &asked(form, path), Some(host)).unwrap();
        seen.to_str().unwrap().to_owned()
    }

    fn rewritten(location: &str, path: &str) -> String {
        seen(Form::Path, path, &of("10.0.0.7:8080", false), location)
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
            ("http://10.0.0.7:8080/x", "/d/cam/web/x"),
            ("https://10.0.0.7:8080//evil.example", "/d/cam/web//evil.example"),
        ] {
            assert_eq!(rewritten(location, "/a/b?c"), expected, "{location}");
        }
        assert_eq!(rewritten("x", "//evil.example/a"), "/d/cam/web/x");
    }

    #[test]
    fn a_redirect_elsewhere_is_left_alone() {
        for location in [
            "https://login.example.com/?back=/x",
            "//cdn.example.com/y",
            "mailto:a@b.example",
            "http://10.0.0.7/x",
            "http://10.0.0.7:81/x",
            "http://10.0.0.8:8080/x",
        ] {
            assert_eq!(rewritten(location, "/"), location);
        }
    }

    #[test]
    fn the_ports_of_the_schemes_need_not_be_said() {
        for (own, location) in [
            ("cam.lan", "http://cam.lan/x"),
            ("cam.lan", "https://CAM.lan:443/x"),
            ("cam.lan:80", "http://cam.lan/x"),
            ("[fd00::7]:80", "http://[fd00:0::7]/x"),
        ] {
            let seen = seen(Form::Path, "/", &of(own, false), location);
            assert_eq!(seen, "/d/cam/web/x", "{location} of {own}");
        }
    }

    #[test]
    fn in_the_host_form_a_service_with_a_name_of_its_own_is_led_back_to_the_clients() {
        let shop = of("shop.example", true);
        for (location, expected) in [
            ("http://shop.example/x?y#z", "https://cam.dev.example.com:8443/x?y#z"),
            ("//shop.example", "https://cam.dev.example.com:8443/"),
            ("https://shop.example//evil.example/", "https://cam.dev.example.com:8443//evil.example/"),
            ("http://shop.example:81/x", "http://shop.example:81/x"),
            ("http://localhost/x", "http://localhost/x"),
            ("/x", "/x"),
            ("../x", "../x"),
            ("mailto:a@shop.example", "mailto:a@shop.example"),
        ] {
            assert_eq!(seen(Form::Host, "/a/b", &shop, location), expected);
        }
        let unnamed = of("shop.example", false);
        let location = "http://shop.example/x";
        assert_eq!(seen(Form::Host, "/a/b", &unnamed, location), location, "it saw the client's host");
    }

    proptest::proptest! {
        #[test]
        fn no_redirect_leads_elsewhere_on_our_own_origin(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "/", "..", ".", "%2e%2e", "%2E", "\\", "//", "http:", "https:", "localhost", "cloud.example.com", ":8443",
                "10.0.0.7:8080", "@", "?", "#", "d/cam/web", "d/cam/web/", "v1/me", "x", " ", "\t", ";", "%2F", "%", ":", "[::1]", "127.1",
            ]), 0..9),
            path in proptest::sample::select(vec!["/", "/a/b?c", "//evil/x", "/../..", "/a/"]),
        ) {
            let location = HeaderValue::from_str(&pieces.concat()).unwrap();
            let own = of("10.0.0.7:8080", false);
            let Some(seen) = super::rewritten(&location, &asked(Form::Path, path), Some(&own)) else { return Ok(()) };
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
        let bad = HeaderValue::from_bytes(b"http://[").unwrap();
        assert_eq!(super::rewritten(&bad, &asked(Form::Path, "/"), None), None);
    }
}
