//! Targets of the fuzzer in this room: the cookies that browsers carry.

use http::{HeaderMap, HeaderValue, header::COOKIE};

use crate::sign_in::cookies;

/// `Cookie` fields, one a line: a login is read once or not at all, and only in the form in which it was made.
pub fn cookie(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    let Some(key) = cookies::read(&headers, cookies::LOGIN) else { return };
    assert!(key.expose().len() == 64 && key.expose().bytes().all(|byte| byte.is_ascii_hexdigit()));
    let pair = format!("{}={}", cookies::LOGIN, key.expose());
    assert!(headers.get_all(COOKIE).iter().any(|line| line.to_str().is_ok_and(|line| line.contains(&pair))));
    headers.append(COOKIE, HeaderValue::try_from(pair).expect("hex and fixed words are visible ASCII"));
    assert!(cookies::read(&headers, cookies::LOGIN).is_none(), "two of them are nobody's");
}
