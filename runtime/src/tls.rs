//! TLS settings, one way of building them.
//!
//! The provider is aws-lc-rs everywhere. A door to which clients show certificates never resumes a
//! session: rustls takes the stored client chain on resumption and does not ask the verifier, so a
//! revoked device could come back.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The one crypto provider of every process here.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// A server certificate that can be replaced while connections are served.
#[derive(Debug)]
pub struct CertificateCell(ArcSwap<CertifiedKey>);

impl CertificateCell {
    /// Holds this chain (leaf first) and its key.
    ///
    /// # Errors
    /// If the key cannot be used, or is not the leaf's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(Self::certified(chain, key)?))))
    }

    /// Serves this one from the next handshake on.
    ///
    /// # Errors
    /// As for [`CertificateCell::new`]; then the old one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        self.0.store(Arc::new(Self::certified(chain, key)?));
        Ok(())
    }

    /// The chain served now, leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.load().cert.clone()
    }

    fn certified(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<CertifiedKey, rustls::Error> {
        CertifiedKey::from_der(chain, key, &provider())
    }
}

impl ResolvesServerCert for CertificateCell {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What a door asks of its clients, as far as TLS is concerned.
#[derive(Debug, Clone)]
pub enum Clients {
    /// People and operators: no client certificate; sessions may be resumed.
    Anonymous,
    /// Devices or nodes: the verifier decides; nothing is resumed.
    Certified(Arc<dyn ClientCertVerifier>),
}

/// Settings for one kind of connection at a door.
///
/// `tls12` adds TLS 1.2 to TLS 1.3. `alpn` lists what is offered, best first.
pub fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Clients,
    tls12: bool,
    alpn: &[&[u8]],
) -> ServerConfig {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = if tls12 { BOTH } else { &BOTH[..1] };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("aws-lc-rs has cipher suites for TLS 1.2 and 1.3");
    let mut config = match clients {
        Clients::Anonymous => builder.with_no_client_auth().with_cert_resolver(certificate),
        Clients::Certified(verifier) => {
            let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(certificate);
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.max_early_data_size = 0;
    config
}
