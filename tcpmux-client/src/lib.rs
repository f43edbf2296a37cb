//! tcpmux-client
