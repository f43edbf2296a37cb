//! tcpmux-server
