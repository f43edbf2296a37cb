//! Key sets and token checks (JOSE).
