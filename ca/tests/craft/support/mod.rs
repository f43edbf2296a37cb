//! What the tests build with: DER by hand, keys, requests, a hierarchy in a temporary directory.

pub(crate) mod csr;
pub(crate) mod der;
pub(crate) mod house;
pub(crate) mod keys;
pub(crate) mod openssl;
pub(crate) mod table;
pub(crate) mod weak_moduli;
