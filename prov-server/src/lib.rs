//! prov-server
