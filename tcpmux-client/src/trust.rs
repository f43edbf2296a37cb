//! Whom the daemon believes: nobody before the CA's fingerprint fits, then that CA alone.

use std::sync::Arc;

use model::Timestamp;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{CertificateFacts, Identity, TrustedTime, trusted_time::unix_time};

/// Settings for a connection that may only fetch the CA certificates: it believes any certificate.
pub(crate) fn bootstrap() -> ClientConfig {
    let mut config = builder(TrustedTime::new(runtime::Clock::system(), Timestamp(0)))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(runtime::tls::provider())))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![HTTP.to_vec()];
    config
}

/// Settings for HTTPS to a cloud whose certificate has to lead to these anchors; with an identity the
/// device shows its certificate.
pub(crate) fn verified_http(
    anchors: &[CertificateDer<'static>],
    identity: Option<&Identity>,
    time: &TrustedTime,
) -> Result<ClientConfig, Error> {
    verified(anchors, identity, time, HTTP)
}

/// Settings for the tunnel.
pub(crate) fn tunnel(identity: &Identity, time: &TrustedTime) -> Result<ClientConfig, Error> {
    let mut config = verified(&identity.anchors, Some(identity), time, tcpmux_proto::ALPN)?;
    // A tunnel seals and opens its records itself.
    config.enable_secret_extraction = true;
    Ok(config)
}

fn verified(
    anchors: &[CertificateDer<'static>],
    identity: Option<&Identity>,
    time: &TrustedTime,
    alpn: &[u8],
) -> Result<ClientConfig, Error> {
    let builder = builder(time.clone())
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned::new(anchors, time.clone())?));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key())?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn builder(time: TrustedTime) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_details(runtime::tls::provider(), Arc::new(time))
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs has cipher suites for TLS 1.3")
}

/// Believes chains to the anchors, at the trusted time, for the right name.
#[derive(Debug)]
struct Pinned {
    inner: Arc<WebPkiServerVerifier>,
    time: TrustedTime,
}

impl Pinned {
    fn new(anchors: &[CertificateDer<'static>], time: TrustedTime) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots.add(anchor.clone())?;
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), runtime::tls::provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { inner, time })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut now = now;
        let begun = CertificateFacts::read(end_entity).map(|facts| facts.not_before);
        // A device without a clock believes the CA that the time is not before its certificate's
        // first moment. A device with a clock knows better.
        if let Ok(begun) = begun
            && !self.time.clock_is_plausible()
            && unix_time(begun) > now
        {
            now = unix_time(begun);
        }
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if let Ok(begun) = begun {
            self.time.prove(begun);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Believes any certificate of whoever has its key.
#[derive(Debug)]
pub(crate) struct Anybody(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const HTTP: &[u8] = b"http/1.1";

#[cfg(test)]
mod tests {
    use runtime::Clock;

    use super::*;
    use crate::test_pki::{ALWAYS, Pki, Validity};

    const NOW: Timestamp = Timestamp::from_secs(1_795_303_719); // 2026-11-21

    fn verdict(
        pki: &Pki,
        other: &Pki,
        names: &[&str],
        validity: Validity,
        system: Timestamp,
    ) -> Result<(), Error> {
        let (clock, _) = Clock::manual(system);
        let time = TrustedTime::new(clock, NOW);
        let pinned = Pinned::new(&[pki.root_der()], time.clone()).unwrap();
        let (chain, _) = other.server(names, validity);
        let name = ServerName::try_from("cloud.test").unwrap();
        pinned.verify_server_cert(&chain[0], &chain[1..], &name, &[], time.current_time().unwrap()).map(drop)
    }

    use rustls::time_provider::TimeProvider;

    #[test]
    fn only_the_right_name_of_the_right_ca_at_the_right_time_is_believed() {
        let pki = Pki::new();
        assert_eq!(verdict(&pki, &pki, &["cloud.test"], ALWAYS, NOW), Ok(()));
        let problem = |outcome: Result<(), Error>| format!("{:?}", outcome.unwrap_err());
        assert!(problem(verdict(&pki, &Pki::new(), &["cloud.test"], ALWAYS, NOW)).contains("UnknownIssuer"));
        assert!(problem(verdict(&pki, &pki, &["other.test"], ALWAYS, NOW)).contains("NotValidForName"));
        let past = ((2020, 1, 1), (2026, 11, 1));
        assert!(problem(verdict(&pki, &pki, &["cloud.test"], past, NOW)).contains("Expired"));
        let future = ((2027, 3, 1), (2027, 6, 1));
        assert!(problem(verdict(&pki, &pki, &["cloud.test"], future, NOW)).contains("NotValidYet"));
    }

    #[test]
    fn a_device_without_a_clock_believes_a_certificate_of_its_future() {
        let pki = Pki::new();
        let future = ((2027, 3, 1), (2027, 6, 1));
        assert_eq!(verdict(&pki, &pki, &["cloud.test"], future, Timestamp(0)), Ok(()));
        let past = ((2020, 1, 1), (2026, 11, 1));
        assert!(verdict(&pki, &pki, &["cloud.test"], past, Timestamp(0)).is_err());
    }

    #[test]
    fn a_verified_certificate_proves_that_its_first_moment_has_passed() {
        let (pki, (clock, _)) = (Pki::new(), Clock::manual(Timestamp(0)));
        let time = TrustedTime::new(clock, NOW);
        let pinned = Pinned::new(&[pki.root_der()], time.clone()).unwrap();
        let name = ServerName::try_from("cloud.test").unwrap();
        let future = ((2027, 3, 1), (2027, 6, 1));
        let (foreign, _) = Pki::new().server(&["cloud.test"], future);
        assert!(pinned.verify_server_cert(&foreign[0], &foreign[1..], &name, &[], unix_time(NOW)).is_err());
        assert_eq!(time.proven(), None, "a stranger proves nothing");
        let (chain, _) = pki.server(&["cloud.test"], future);
        pinned.verify_server_cert(&chain[0], &chain[1..], &name, &[], unix_time(NOW)).unwrap();
        assert!(time.now().rfc3339().starts_with("2027-03-01"));
    }
}
