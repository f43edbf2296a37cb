//! tcpmux
