//! A CA that nobody else knows, and one server certificate of it.

use std::{path::PathBuf, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::{Identity, tls};

/// A root, and a certificate for `localhost` and 127.0.0.1, as PEM files that go with their value.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// Makes both.
    ///
    /// # Panics
    /// If there is no randomness, or no place for the files.
    #[expect(clippy::new_without_default, reason = "no two are alike")]
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        // One that is called like its issuer would be taken for the issuer itself.
        leaf.distinguished_name.push(DnType::CommonName, "localhost");
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let made = Self { directory };
        std::fs::write(made.root(), pem("CERTIFICATE", issuer.der())).unwrap();
        std::fs::write(made.certificate(), pem("CERTIFICATE", leaf.der())).unwrap();
        std::fs::write(made.key(), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        made
    }

    /// The file of the root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// The file of the server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.pem")
    }

    /// The file of the server's key.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("server.key")
    }

    /// TLS as that server speaks it, without client certificates.
    ///
    /// # Panics
    /// If the files are gone.
    pub fn acceptor(&self) -> TlsAcceptor {
        let (chain, key) = Identity::read(&self.certificate(), &self.key()).into_parts();
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config).into()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
