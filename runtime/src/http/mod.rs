//! Serving HTTP: route tables that can be listed, connections with bounds, refusals as problem documents.

mod answer;
mod client;
mod input;
mod problem;
mod routes;
mod serve;

pub use answer::{OfTenant, Page, Paging, answer, done, ok};
pub use client::{ClientError, HttpClient, is_loopback};
pub use input::{json_body, query};
pub use problem::{fault, problem};
pub use routes::{Caller, Route, RouteSpec, Routes};
pub use serve::{ConnectionInfo, ServeOptions, serve_connection};
