//! Signed tokens: reading them strictly, the keys that they are checked with, and making them.
//!
//! Only asymmetric signatures exist here, a key has exactly one algorithm, and keys come from configured
//! places alone: nothing inside a token can name, bring or choose a key (RFC 8725).
//!
//! - [`UnverifiedToken`], [`verify`], [`Expectations`] → [`TokenBody`] or [`TokenError`]
//! - [`KeySet`]: the keys of one issuer, swapped as a whole; [`RemoteKeySet`] keeps one fresh over HTTP
//! - [`SigningKey`]: the other side, for our own authorizer
//! - [`Discovery`], [`post_form`]: what a provider says about itself, and asking it for tokens
//! - [`bearer`]: where a request carries its token

mod bearer;
mod discovery;
mod fetch;
mod json;
mod key;
mod key_set;
mod oauth;
mod remote;
mod signing;
mod token;
mod token_error;

pub use bearer::{authorization, bearer};
pub use discovery::Discovery;
pub use fetch::{FetchError, KeyFetcher};
pub use key::{Algorithm, KeyError, VerifyingKey};
pub use key_set::{KeySet, KeySetError};
pub use oauth::{OauthError, plain, post_form};
pub use remote::{KeySource, RemoteKeySet, RemoteKeySetError};
pub use signing::{SigningError, SigningKey};
pub use token::{Expectations, MAX_TOKEN_BYTES, TokenBody, TypRule, UnverifiedToken, verify};
pub use token_error::TokenError;
