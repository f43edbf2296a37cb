//! Whom a client of ours trusts: the system's roots, and those that the operator adds.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::HttpClient;

/// Why the file of additional roots is of no use.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the CA certificates in {path}: {reason}")]
pub struct RootsError {
    path: String,
    reason: String,
}

/// A client that trusts the system's roots and those of a PEM file, where one is given. Without any root it calls
/// plain HTTP on loopback alone.
///
/// # Errors
/// When that file cannot be read.
pub fn client_trusting(additional: Option<&Path>) -> Result<HttpClient, RootsError> {
    let roots = system_roots(additional)?;
    Ok(HttpClient::new(roots).unwrap_or_else(|_| {
        tracing::warn!("this system has no CA certificates, so no https address can be verified");
        HttpClient::loopback_only()
    }))
}

/// The system's roots and those of a PEM file, where one is given.
///
/// # Errors
/// When that file cannot be read.
pub fn system_roots(additional: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = additional {
        let unreadable = |reason: String| RootsError { path: path.display().to_string(), reason };
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
        }
    }
    Ok(roots)
}
