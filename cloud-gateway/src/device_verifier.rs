//! The device door's check of client certificates during the handshake.
//!
//! It verifies the chain, the purpose and the time. Whether the certificate is known and not revoked is the
//! registry's to say, after the handshake: a verifier is not asked again while a connection lives.

use std::{sync::Arc, time::Duration};

use ca::DeviceCertificate;
use model::Timestamp;
use runtime::{Clock, tls::provider};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Whether a client must show a certificate, and how strict its end is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The tunnel: none, no connection; an expired one neither.
    Required,
    /// HTTP on the device door: a device that enrols has none yet, and one that renews late has an expired one.
    Optional {
        /// How long after its end a leaf is still verified, as of its last second. What an expired certificate may
        /// do is decided where it is used.
        renew_after_expiry: Duration,
    },
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// An anchor is not a certificate.
    #[error("a CA certificate for devices cannot be used: {0}")]
    Anchor(#[from] Error),
    /// There is no anchor.
    #[error("there is no CA certificate to verify devices with: {0}")]
    Empty(#[from] VerifierBuilderError),
}

/// A verifier that takes chains ending at one of these anchors: our *devices* intermediate, or the operator's own
/// CA certificates.
///
/// # Errors
/// [`VerifierError`] when there is no usable anchor.
pub fn device_verifier(
    anchors: impl IntoIterator<Item = CertificateDer<'static>>,
    asked: ClientCertificate,
    clock: Clock,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierError> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor)?;
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let chain = match asked {
        ClientCertificate::Required => chain,
        ClientCertificate::Optional { .. } => chain.allow_unauthenticated(),
    };
    Ok(Arc::new(DeviceVerifier { chain: chain.build()?, asked, clock }))
}

#[derive(Debug)]
struct DeviceVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    asked: ClientCertificate,
    clock: Clock,
}

impl DeviceVerifier {
    /// The moment as of which a leaf is verified.
    fn moment(&self, leaf: &DeviceCertificate) -> UnixTime {
        let now = self.clock.now();
        let end = leaf.not_after();
        let at = match self.asked {
            ClientCertificate::Optional { renew_after_expiry }
                if end < now && now <= end.plus(renew_after_expiry) =>
            {
                end.minus(Duration::from_secs(1))
            }
            _ => now,
        };
        UnixTime::since_unix_epoch(at.since(Timestamp(0)))
    }
}

impl ClientCertVerifier for DeviceVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    /// Time comes from our clock, not from rustls, so that both agree in every process and test.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let leaf = DeviceCertificate::read(end_entity).map_err(|reason| {
            tracing::debug!(%reason, "a client certificate is not a device's");
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
        })?;
        self.chain.verify_client_cert(end_entity, intermediates, self.moment(&leaf))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "device_verifier_tests.rs"]
mod tests;
