//! The certificate craft as its callers see it, with hostile input and with other people's verifiers.

#![expect(clippy::unwrap_used, reason = "everything here is called by tests alone")]

mod support;

mod authorities;
mod files;
mod hostile_certificates;
mod hostile_keys;
mod hostile_requests;
mod openssl_reads;
mod random_bytes;
mod rustls_verifies;
