//! cloud-gateway
