//! The stories: what the whole system does, told by real processes.

#![allow(clippy::unwrap_used, reason = "a story that fails is a failing test")]
