//! Reading and verifying one token.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::Timestamp;
use serde_json::{Map, Value};

use super::{TokenError, json, key::MAX_KEY_ID_BYTES, key_set::KeySet};

/// Verifies a token in one go; [`UnverifiedToken`] is for callers who must choose the key set by the issuer first.
///
/// # Errors
/// [`TokenError`], the first thing found wrong.
pub fn verify(token: &str, keys: &KeySet, expected: &Expectations<'_>) -> Result<TokenBody, TokenError> {
    UnverifiedToken::read(token)?.verify(keys, expected)
}

/// What a token must be to be accepted.
#[derive(Debug, Clone, Copy)]
pub struct Expectations<'a> {
    /// `iss`, compared byte for byte.
    pub issuer: &'a str,
    /// One of `aud` must be this, byte for byte.
    pub audience: &'a str,
    /// Which `typ` the header may have.
    pub typ: TypRule,
    /// The present time.
    pub now: Timestamp,
    /// How far the issuer's clock may be off. At most a minute makes sense.
    pub leeway: Duration,
}

/// Which `typ` a token's header may have. Compared without regard to case; `application/` may precede it
/// (RFC 7515 §4.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypRule {
    /// From a sign-in provider: absent, `JWT` or `at+jwt`.
    Provider,
    /// At the proxy: `at+jwt` alone (RFC 9068 §4), so that no other token of the same signer is taken for one.
    AccessToken,
    /// This one alone, in lower case: a kind of our own.
    Only(&'static str),
}

impl TypRule {
    fn accepts(self, typ: Option<&str>) -> bool {
        let typ = typ.map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        match self {
            Self::Provider => matches!(typ, None | Some("jwt" | "at+jwt")),
            Self::AccessToken => typ == Some("at+jwt"),
            Self::Only(kind) => typ == Some(kind),
        }
    }
}

/// A token whose signature has not been checked: good for finding out whose keys to check it with.
pub struct UnverifiedToken<'a> {
    signed: &'a str,
    signature: &'a str,
    algorithm: String,
    key_id: Option<String>,
    typ: Option<String>,
    issuer: String,
    members: Map<String, Value>,
}

impl<'a> UnverifiedToken<'a> {
    /// Takes a token apart (RFC 7515 §5.2), believing nothing of it.
    ///
    /// # Errors
    /// [`TokenError`] when it is too long, malformed, or its header asks for what is not done here.
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let malformed = TokenError::Malformed("it is not three parts of base64url");
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, body) = signed.split_once('.').ok_or(malformed)?;
        let [header, body] = [header, body].map(|part| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed));
        let header = json::object(&header?).map_err(TokenError::Malformed)?;
        let members = json::object(&body?).map_err(TokenError::Malformed)?;

        for refused in ["crit", "jku", "jwk", "x5u", "x5c", "b64", "zip"] {
            if header.contains_key(refused) {
                return Err(TokenError::Header(refused));
            }
        }
        let algorithm =
            header_text(&header, "alg")?.ok_or(TokenError::Malformed("its header has no `alg`"))?;
        let key_id = header_text(&header, "kid")?;
        if key_id.as_ref().is_some_and(|id| id.len() > MAX_KEY_ID_BYTES) {
            return Err(TokenError::UnknownKey);
        }
        let issuer = required_text(&members, "iss")?;
        let typ = header_text(&header, "typ")?;
        Ok(Self { signed, signature, algorithm, key_id, typ, issuer, members })
    }

    /// Who claims to have made it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What an identity token of this algorithm says of a text that came with it (OpenID Connect Core §3.1.3.6): the
    /// first half of its digest.
    pub fn half_hash(&self, text: &str) -> String {
        let algorithm = match self.algorithm.as_str() {
            "ES384" => &SHA384,
            "EdDSA" => &SHA512,
            _ => &SHA256,
        };
        let hash = digest(algorithm, text.as_bytes());
        URL_SAFE_NO_PAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2])
    }

    /// When it says that it ends: for its bearer, who wants to know when to renew it. It proves nothing.
    pub fn claimed_end(&self) -> Option<Timestamp> {
        moment(&self.members, "exp").ok().flatten()
    }

    /// Verifies the signature with the issuer's keys, then everything that is expected.
    ///
    /// # Errors
    /// [`TokenError`], the first thing found wrong. Nothing of an unsigned body is reported before the signature
    /// stands, so that the answers tell a forger nothing.
    pub fn verify(&self, keys: &KeySet, expected: &Expectations<'_>) -> Result<TokenBody, TokenError> {
        if self.issuer != expected.issuer {
            return Err(TokenError::Issuer);
        }
        keys.with_key(self.key_id.as_deref(), |key| {
            if key.algorithm().as_str() != self.algorithm {
                return Err(TokenError::Algorithm);
            }
            key.verify(self.signed, self.signature)
        })
        .ok_or(TokenError::UnknownKey)??;
        if !expected.typ.accepts(self.typ.as_deref()) {
            return Err(TokenError::Typ);
        }
        let body = TokenBody::read(&self.members)?;
        if !body.audience.iter().any(|audience| audience == expected.audience) {
            return Err(TokenError::Audience);
        }
        if expected.now >= body.expires_at.plus(expected.leeway) {
            return Err(TokenError::Expired);
        }
        let latest = expected.now.plus(expected.leeway);
        if body.not_before.is_some_and(|at| at > latest) || body.issued_at.is_some_and(|at| at > latest) {
            return Err(TokenError::NotYet);
        }
        Ok(body)
    }
}

/// The content of a token that was verified: typed where the standard gives a type, the rest as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBody {
    /// `iss`.
    pub issuer: String,
    /// `sub`: 1 to 255 bytes without control characters.
    pub subject: String,
    /// `aud`, also where it was a single text.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `iat`.
    pub issued_at: Option<Timestamp>,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// Every member, those above included.
    pub members: Map<String, Value>,
}

impl TokenBody {
    /// A member that is a text.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.members.get(member).and_then(Value::as_str)
    }

    /// A member that is a moment in whole or broken seconds.
    ///
    /// # Errors
    /// [`TokenError::Member`] when it is there but is no number or out of range.
    pub fn moment(&self, member: &'static str) -> Result<Option<Timestamp>, TokenError> {
        moment(&self.members, member)
    }

    fn read(members: &Map<String, Value>) -> Result<Self, TokenError> {
        let subject = required_text(members, "sub")?;
        if subject.len() > MAX_SUBJECT_BYTES || subject.chars().any(char::is_control) {
            return Err(TokenError::Member("sub"));
        }
        let audience = match members.get("aud") {
            None => return Err(TokenError::Lacks("aud")),
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(list)) => {
                let texts = list.iter().map(|item| item.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or(TokenError::Member("aud"))?
            }
            Some(_) => return Err(TokenError::Member("aud")),
        };
        Ok(Self {
            issuer: required_text(members, "iss")?,
            subject,
            audience,
            expires_at: moment(members, "exp")?.ok_or(TokenError::Lacks("exp"))?,
            issued_at: moment(members, "iat")?,
            not_before: moment(members, "nbf")?,
            members: members.clone(),
        })
    }
}

fn header_text(header: &Map<String, Value>, member: &'static str) -> Result<Option<String>, TokenError> {
    match header.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Header(member)),
    }
}

fn required_text(members: &Map<String, Value>, member: &'static str) -> Result<String, TokenError> {
    match members.get(member) {
        None => Err(TokenError::Lacks(member)),
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(TokenError::Member(member)),
    }
}

/// A NumericDate (RFC 7519 §2): a JSON number, whole or broken, between 1970 and the year 9999.
fn moment(members: &Map<String, Value>, member: &'static str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = members.get(member) else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds)),
        _ => None,
    };
    let seconds = seconds.ok_or(TokenError::Member(member))?;
    // The range makes the cast exact: milliseconds until 9999 need 48 bits.
    Ok(Some(Timestamp((seconds * 1000.0).floor() as i64)))
}

/// Longer tokens are refused before anything of them is looked at.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_SUBJECT_BYTES: usize = 255;
const LAST_SECOND: f64 = 253_402_300_799.0;

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
