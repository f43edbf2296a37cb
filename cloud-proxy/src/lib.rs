//! The client-facing proxy: a request with a token comes in, one stream to a service of a device carries it.
//!
//! Read [`Proxy`] first, then `visit`, which is the way of one request, step by step:
//!
//! | step | file | its no |
//! |---|---|---|
//! | which device and service, which bytes | `target` | 400, 404, 421 |
//! | a preflight of another origin | `cors` | |
//! | can it mean only one thing | `request` | 400, 417 |
//! | a browser's navigation | `navigation` | 400 |
//! | whose token | `tokens` | 401 |
//! | or whose browser | `visitors`, `own_origin` | 401, 403, to the sign-in |
//! | may they, this way, now | `admit` | 403 |
//! | open a stream | `surroundings` | by `answer` |
//! | send, wait for the head | `forward`, `upload` | by `answer`, 504 |
//! | the answer | `response`, `location`, `cookies`, `download` | 502; after the head: abort |
//! | a WebSocket, a raw stream | `websocket`, `streams`, `splice` | |
//! | ports without tokens | `publish` | RST |
//! | until when | `lease` | abort |
//! | what is written down | `account` | |
//!
//! No SQL here, no signing key, and no connection that two requests share.

mod account;
mod admit;
mod answer;
mod cookies;
mod cors;
mod download;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod lease;
mod location;
mod navigation;
mod openapi;
mod own_origin;
mod proxy;
mod publish;
mod request;
mod response;
mod splice;
mod streams;
mod surroundings;
mod target;
mod tickets;
mod tokens;
mod trace;
mod upload;
mod visit;
mod visitors;
mod websocket;

pub use cors::Cors;
pub use openapi::openapi;
pub use proxy::{Config, Proxy};
pub use publish::PublishConfig;
pub use streams::SUBPROTOCOL;
pub use surroundings::Timeouts;
pub use target::Hosts;
pub use tokens::{Issuer, IssuerKeys, IssuerRule, Tokens};
pub use visitors::{SignIn, VisitorFuture, Visitors, Welcome};
