//! cloud-proxy
