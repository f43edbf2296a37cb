//! tcpmux-proto
