//! The two cookies of the cloud's own origin. `__Host-` keeps every other host from setting them, also a
//! device's host under the same registered domain.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::COOKIE};

use super::key::BrowserKey;

/// The login: who is signed in with this browser.
pub(crate) const LOGIN: &str = "__Host-tcpmux";
/// Binds a sign-in that is under way to the browser that began it.
pub(super) const SIGNING_IN: &str = "__Host-tcpmux-signing-in";

/// The key in a cookie of this name; `None` if it is not there, not ours in form, or there twice.
pub(crate) fn read(headers: &HeaderMap, name: &str) -> Option<BrowserKey> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        for pair in line.to_str().ok()?.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else { continue };
            if key == name && found.replace(value).is_some() {
                return None;
            }
        }
    }
    BrowserKey::shown(found?)
}

/// `Set-Cookie` for it. Lax and not Strict: the way back from the provider begins at another site.
pub(super) fn set(name: &str, key: &BrowserKey, life: Duration) -> HeaderValue {
    let text = format!(
        "{name}={}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax",
        key.expose(),
        life.as_secs()
    );
    let mut value = HeaderValue::try_from(text).expect("hex and fixed words are visible ASCII");
    value.set_sensitive(true);
    value
}

/// `Set-Cookie` that removes it.
pub(super) fn clear(name: &str) -> HeaderValue {
    let text = format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(text).expect("fixed words are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_once_or_not_at_all() {
        let (one, two) = (BrowserKey::fresh(), BrowserKey::fresh());
        let mut headers = HeaderMap::new();
        assert!(read(&headers, LOGIN).is_none());
        headers.append(COOKIE, format!("a=b; {LOGIN}={}", one.expose()).parse().unwrap());
        headers.append(COOKIE, format!("{SIGNING_IN}={}", two.expose()).parse().unwrap());
        assert_eq!(read(&headers, LOGIN).unwrap().digest(), one.digest());
        assert_eq!(read(&headers, SIGNING_IN).unwrap().digest(), two.digest());
        headers.append(COOKIE, format!("{LOGIN}={}", two.expose()).parse().unwrap());
        assert!(read(&headers, LOGIN).is_none(), "two of them are nobody's");
    }

    #[test]
    fn a_cookie_belongs_to_this_host_alone_and_no_script_sees_it() {
        let text = set(LOGIN, &BrowserKey::fresh(), Duration::from_secs(60));
        let text = text.to_str().unwrap();
        for part in ["; Path=/;", "; Secure;", "; HttpOnly;", "SameSite=Lax", "Max-Age=60"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.to_ascii_lowercase().contains("domain"));
        assert!(clear(LOGIN).to_str().unwrap().contains("Max-Age=0"));
    }
}
