//! Serving HTTP: route tables that can be listed, connections with bounds, refusals as problem documents.

mod problem;
mod routes;
mod serve;

pub use problem::{fault, problem};
pub use routes::{Caller, Route, RouteSpec, Routes};
pub use serve::{ConnectionInfo, ServeOptions, serve_connection};
