//! A CA that nobody else knows, and one server certificate of it.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::Identity;

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

    /// Certificate and key of the server.
    pub fn identity(&self) -> Identity {
        Identity::read(&self.certificate(), &self.key())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
