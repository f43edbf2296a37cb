//! What the tests build with: DER by hand, keys, requests, a hierarchy in a temporary directory.

#![expect(clippy::unwrap_used, reason = "these functions are called by tests alone")]

pub(crate) mod csr;
pub(crate) mod der;
pub(crate) mod house;
pub(crate) mod keys;
pub(crate) mod openssl;
pub(crate) mod weak_moduli;
