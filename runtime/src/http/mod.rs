//! Serving HTTP: route tables that can be listed, connections with bounds, refusals as problem documents.

mod answer;
mod client;
mod describe;
mod destinations;
mod input;
mod outbound;
mod problem;
mod roots;
mod routes;
mod serve;

pub use answer::{OfTenant, Page, Paging, answer, done, ok};
pub use client::{ClientError, HttpClient, is_loopback};
pub use describe::{Absent, Conflicting, NotAllowed, Precondition, Refused, Unproven, described_problem};
pub use destinations::{DestinationError, Destinations, is_public};
pub use input::{json_body, query, whole_body};
pub use outbound::{Outbound, OutboundError, Resolver, Resolving, SystemResolver};
pub use problem::{Problem, fault, problem};
pub use roots::{RootsError, client_trusting, system_roots};
pub use routes::{Caller, Route, RouteSpec, Routes};
pub use serve::{ConnectionInfo, ServeOptions, serve_connection};
