//! Why a token is refused.

use model::{Code, Refusal};

/// Why a token is refused. The texts may be shown to the caller: they never repeat the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request carries none.
    #[error("this needs a bearer token in the Authorization header")]
    Missing,
    /// More than one credential, or one of another scheme.
    #[error("the Authorization header must occur once, as `Bearer` and a token")]
    Credential,
    /// Longer than [`super::MAX_TOKEN_BYTES`].
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Not a signed token in compact form, or not strict JSON.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// A header member that is not allowed here, as `crit` or one that brings its own key.
    #[error("the token's header has a member that is not accepted here: {0}")]
    Header(&'static str),
    /// A member of the body is absent.
    #[error("the token has no `{0}`")]
    Lacks(&'static str),
    /// A member of the body has another type or range than the standard's.
    #[error("the token's `{0}` has the wrong type or range")]
    Member(&'static str),
    /// No key of that `kid`.
    #[error("no known key of this issuer signed the token")]
    UnknownKey,
    /// `alg` is not the key's.
    #[error("the token's algorithm is not the one of its key")]
    Algorithm,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// Made by another issuer than those configured.
    #[error("the token's issuer is not accepted here")]
    Issuer,
    /// Made for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// A token of another kind.
    #[error("the token's `typ` is not accepted here")]
    Typ,
    /// Past its `exp`.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Before its `nbf`, or made in the future.
    #[error("the token is not valid yet; check the clocks of its issuer and of this server")]
    NotYet,
    /// The issuer's keys could not be loaded so far.
    #[error("the issuer's keys cannot be loaded at the moment, so its tokens cannot be checked")]
    KeysUnavailable,
}

impl TokenError {
    /// The code that this error has in answers.
    pub fn code(self) -> Code {
        match self {
            Self::Missing => Code::TokenMissing,
            Self::Expired | Self::NotYet => Code::TokenExpired,
            Self::Audience | Self::Typ => Code::TokenAudience,
            Self::KeysUnavailable => Code::Unavailable,
            Self::Credential
            | Self::TooLong
            | Self::Malformed(_)
            | Self::Header(_)
            | Self::Lacks(_)
            | Self::Member(_)
            | Self::UnknownKey
            | Self::Algorithm
            | Self::Signature
            | Self::Issuer => Code::TokenUnknownKey,
        }
    }

    /// The refusal to answer with.
    pub fn refusal(self) -> Refusal {
        let refusal = Refusal::new(self.code(), self.to_string());
        if self == Self::KeysUnavailable { refusal.retry_after(10) } else { refusal }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        error.refusal()
    }
}
