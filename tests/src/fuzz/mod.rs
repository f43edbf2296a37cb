//! Everything of ours that reads what others wrote, as functions of bytes. Each holds what must be true of any bytes at
//! all, and panics where it is not.
//!
//! `tests/tests/fuzz.rs` calls each with the inputs under `tests/fuzz/corpus/`; `scripts/prove fuzz` calls them with
//! inputs that a fuzzer makes. What only its own room can reach has its function in that room, behind the feature
//! `fuzzing`.

mod certificates;
mod frames;
mod messages;
mod pair;
mod session;
mod settings;
mod tokens;
mod words;

/// One reader and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: the directory of its inputs, and what `scripts/prove fuzz` calls it.
    pub name: &'static str,
    /// Panics where an input breaks what must hold.
    pub run: fn(&[u8]),
    /// Longer inputs show nothing new.
    pub longest: usize,
}

const fn target(name: &'static str, longest: usize, run: fn(&[u8])) -> Target {
    Target { name, run, longest }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("frame", 64, frames::frame),
    target("records", 1024, runtime::records::fuzzing::records),
    target("session", 2048, session::session),
    target("pair", 512, pair::pair),
    target("stream-header", 1024, messages::stream_header),
    target("control-message", 1024, messages::control),
    target("agent-call", 1024, messages::agent),
    target("word", 256, words::word),
    target("moment", 64, words::moment),
    target("enrolment-string", 512, words::enrolment_string),
    target("local-target", 256, words::local_target),
    target("destination", 256, words::destination),
    target("token", 2048, tokens::token),
    target("key-set", 2048, tokens::key_set),
    target("certificate-request", 2048, certificates::request),
    target("certificate", 2048, certificates::certificate),
    target("pem", 1024, certificates::pem),
    target("est-body", 2048, prov_server::fuzzing::body),
    target("est-credentials", 512, prov_server::fuzzing::credentials),
    target("proxy-target", 512, cloud_proxy::fuzzing::target),
    target("request-head", 1024, cloud_proxy::fuzzing::request_head),
    target("answer-head", 1024, cloud_proxy::fuzzing::answer_head),
    target("conditions", 512, client_api::fuzzing::conditions),
    target("fields", 512, client_api::fuzzing::fields),
    target("topic", 256, client_api::fuzzing::topic),
    target("report", 2048, client_api::fuzzing::report),
    target("history", 512, client_api::fuzzing::history),
    target("browser-cookie", 512, cloud_gateway::fuzzing::cookie),
    target("local-report", 2048, tcpmux_client::fuzzing::report),
    target("spool", 1024, tcpmux_client::fuzzing::spool),
    target("issued", 2048, tcpmux_client::fuzzing::issued),
    target("client-config", 1024, tcpmux_client::fuzzing::config),
    target("cloud-config", 1024, settings::cloud),
];
