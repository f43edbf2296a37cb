//! Where a request carries its credential.

use http::{HeaderMap, header::AUTHORIZATION};

use super::TokenError;

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1), which must occur exactly once.
///
/// # Errors
/// [`TokenError::Missing`] without the header, [`TokenError::Credential`] for anything else.
pub fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let (scheme, credential) = authorization(headers)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(credential) } else { Err(TokenError::Credential) }
}

/// Scheme and credential of the `Authorization` header, which must occur exactly once.
///
/// # Errors
/// [`TokenError::Missing`] without the header, [`TokenError::Credential`] when it is ambiguous or has no credential.
pub fn authorization(headers: &HeaderMap) -> Result<(&str, &str), TokenError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenError::Missing)?;
    if values.next().is_some() {
        return Err(TokenError::Credential);
    }
    let text = value.to_str().map_err(|_| TokenError::Credential)?;
    let (scheme, credential) = text.split_once(' ').ok_or(TokenError::Credential)?;
    let credential = credential.trim_start_matches(' ');
    if credential.is_empty() || credential.contains([' ', ',']) {
        return Err(TokenError::Credential);
    }
    Ok((scheme, credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_one_header_alone() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), Err(TokenError::Missing));
        headers.insert(AUTHORIZATION, "bEaReR abc".parse().unwrap());
        assert_eq!(bearer(&headers), Ok("abc"));
        headers.append(AUTHORIZATION, "Bearer def".parse().unwrap());
        assert_eq!(bearer(&headers), Err(TokenError::Credential));
        for bad in ["Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer a,b", "abc"] {
            headers.insert(AUTHORIZATION, bad.parse().unwrap());
            assert_eq!(bearer(&headers), Err(TokenError::Credential), "{bad}");
        }
    }
}
