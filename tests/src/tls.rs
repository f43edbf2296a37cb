//! TLS as callers speak it, with every choice in the test's hand.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A client certificate and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM files.
    ///
    /// # Panics
    /// If they hold no certificate or no key.
    pub fn read(chain: &Path, key: &Path) -> Self {
        Self::from_pem(&std::fs::read(chain).unwrap(), &std::fs::read(key).unwrap())
    }

    /// From PEM texts.
    ///
    /// # Panics
    /// If they hold no certificate or no key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Self {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).map(Result::unwrap).collect();
        assert!(!chain.is_empty(), "no certificate in the PEM text");
        Self { chain, key: PrivateKeyDer::from_pem_slice(key).unwrap() }
    }

    /// From DER: the chain, leaf first, and the key in PKCS #8.
    pub fn from_der(chain: Vec<CertificateDer<'static>>, key: Vec<u8>) -> Self {
        Self { chain, key: PrivateKeyDer::Pkcs8(key.into()) }
    }

    /// Chain and key, for a server that shows them.
    pub fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }

    /// The leaf's DER.
    pub fn leaf(&self) -> &[u8] {
        &self.chain[0]
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// How to shake hands with a door.
#[derive(Debug, Clone, Default)]
pub struct TlsClient {
    roots: Option<Arc<RootCertStore>>,
    identity: Option<Identity>,
    versions: Option<&'static [&'static SupportedProtocolVersion]>,
    alpn: Vec<Vec<u8>>,
    source: Option<IpAddr>,
}

impl TlsClient {
    /// Trusts the certificates in a PEM file, and nothing else.
    ///
    /// # Panics
    /// If there is none in it.
    pub fn trusting(file: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self { roots: Some(Arc::new(roots)), ..Self::default() }
    }

    /// Trusts whoever answers: for tests of what a server does with a stranger's handshake.
    pub fn trusting_anybody() -> Self {
        Self::default()
    }

    /// The same, showing a certificate.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The same, offering these protocols.
    #[must_use]
    pub fn with_alpn(mut self, alpn: &[&[u8]]) -> Self {
        self.alpn = alpn.iter().map(|name| name.to_vec()).collect();
        self
    }

    /// The same, speaking these versions alone.
    #[must_use]
    pub fn with_versions(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        self.versions = Some(versions);
        self
    }

    /// The same, coming from this address of loopback: to a cloud another caller.
    #[must_use]
    pub fn from_source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The settings as rustls takes them.
    ///
    /// # Panics
    /// If the identity's key is not its certificate's.
    pub fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions.unwrap_or(rustls::DEFAULT_VERSIONS))
            .unwrap();
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(Arc::clone(roots)),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)),
        };
        let mut config = match self.identity.clone() {
            Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// Connects and shakes hands, asking for `localhost`.
    ///
    /// # Errors
    /// If there is no connection or the handshake fails. With TLS 1.3 a server's no to a client
    /// certificate comes only with the first read.
    pub async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = match self.source {
            None => TcpStream::connect(address).await?,
            Some(source) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((source, 0).into())?;
                socket.connect(address).await?
            }
        };
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(self.config()));
        connector.connect(ServerName::try_from("localhost").expect("a name"), socket).await
    }
}

/// The crypto of the tests' own side.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
