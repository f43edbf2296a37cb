use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use runtime::{
    ManualClock,
    tls::{CertificateCell, Clients, server_config},
};
use rustls::{ClientConfig, client::danger::ServerCertVerifier};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    test_authority::{Authority, device_params},
    testing::NOW,
};

const DAY: Duration = Duration::from_secs(86_400);
/// Midnight at the end of the test certificates.
const END: Timestamp = Timestamp::from_secs(1_801_353_600);
const LATE: ClientCertificate =
    ClientCertificate::Optional { renew_after_expiry: Duration::from_secs(10 * 86_400) };

struct Case {
    authority: Authority,
    tunnel: Arc<dyn ClientCertVerifier>,
    http: Arc<dyn ClientCertVerifier>,
    hand: ManualClock,
}

impl Case {
    fn new() -> Self {
        let authority = Authority::new();
        let (clock, hand) = Clock::manual(NOW);
        let verifier =
            |asked| device_verifier([authority.certificate.clone()], asked, clock.clone()).unwrap();
        let (tunnel, http) = (verifier(ClientCertificate::Required), verifier(LATE));
        Self { authority, tunnel, http, hand }
    }

    /// Whether the tunnel and HTTP take this chain.
    fn taken(&self, chain: &[CertificateDer<'static>]) -> (bool, bool) {
        // The time that rustls would give is not used.
        let theirs = UnixTime::since_unix_epoch(Duration::ZERO);
        let verify = |verifier: &Arc<dyn ClientCertVerifier>| {
            verifier.verify_client_cert(&chain[0], &chain[1..], theirs).is_ok()
        };
        (verify(&self.tunnel), verify(&self.http))
    }

    fn device(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = device_params("cam-01", "cam-01.default.device.abcd2345.tcpmux.internal");
        change(&mut params);
        self.authority.issue(params).0
    }
}

const YES: (bool, bool) = (true, true);
const NO: (bool, bool) = (false, false);

#[test]
fn only_a_device_leaf_of_the_anchor_is_taken() {
    let case = Case::new();
    let good = case.device(|_| ());
    assert_eq!(case.taken(std::slice::from_ref(&good)), YES);
    assert_eq!(
        case.taken(&[good.clone(), case.authority.certificate.clone()]),
        YES,
        "with the issuer beside it"
    );

    let server = case.device(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(case.taken(&[server]), NO, "a server's");
    let purposeless = case.device(|params| params.extended_key_usages.clear());
    assert_eq!(case.taken(&[purposeless]), NO, "no purpose");
    let ca = case.device(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(case.taken(&[ca]), NO, "CA:TRUE");
    assert_eq!(
        case.taken(std::slice::from_ref(&case.authority.certificate)),
        NO,
        "the intermediate as a leaf"
    );
    let foreign = Authority::new().device("cam-01", "cam-01.default.device.abcd2345.tcpmux.internal");
    assert_eq!(case.taken(std::slice::from_ref(&foreign)), NO, "another authority of the same name");
    assert_eq!(case.taken(&[foreign, case.authority.certificate.clone()]), NO);
    assert_eq!(case.taken(&[CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])]), NO, "no certificate");
    let mut flipped = good.to_vec();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert_eq!(case.taken(&[flipped.into()]), NO, "a changed signature");
}

#[test]
fn a_device_cannot_issue_devices() {
    let case = Case::new();
    let key = KeyPair::generate().unwrap();
    let params = device_params("cam-01", "cam-01.default.device.abcd2345.tcpmux.internal");
    let (device, _) = case.authority.issue(params.clone());
    let issuer = Issuer::new(params, key);
    let child = device_params("cam-02", "cam-02.default.device.abcd2345.tcpmux.internal");
    let child = child.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
    assert_eq!(case.taken(&[child, device, case.authority.certificate.clone()]), NO);
}

#[test]
fn the_tunnel_ends_with_the_certificate_and_renewal_lives_as_long_as_the_policy() {
    let case = Case::new();
    let leaf = [case.device(|_| ())];
    for (at, taken) in [
        (END.minus(30 * DAY).minus(Duration::from_secs(1)), NO),
        (END.minus(30 * DAY), YES),
        (END, YES),
        (END.plus(Duration::from_secs(1)), (false, true)),
        (END.plus(10 * DAY), (false, true)),
        (END.plus(10 * DAY).plus(Duration::from_millis(1)), NO),
    ] {
        case.hand.set(at);
        assert_eq!(case.taken(&leaf), taken, "{}", at.rfc3339());
    }
}

#[test]
fn lateness_is_forgiven_to_nobody_else() {
    let case = Case::new();
    case.hand.set(END.plus(DAY));
    let server = case.device(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(case.taken(&[server]), NO);
    let foreign = Authority::new().device("cam-01", "cam-01.default.device.abcd2345.tcpmux.internal");
    assert_eq!(case.taken(&[foreign]), NO);
    let backwards = case.device(|params| params.not_before = date_time_ymd(2027, 2, 20));
    assert_eq!(case.taken(&[backwards]), NO, "never valid at all");
    assert_eq!(case.taken(&[case.device(|_| ())]), (false, true), "control");
}

#[test]
fn without_a_usable_anchor_there_is_no_verifier() {
    let verifier = |anchors: Vec<CertificateDer<'static>>| device_verifier(anchors, LATE, Clock::system());
    assert!(matches!(verifier(vec![]), Err(VerifierError::Empty(_))));
    assert!(matches!(verifier(vec![CertificateDer::from(vec![1])]), Err(VerifierError::Anchor(_))));
    assert!(verifier(vec![Authority::new().certificate]).is_ok(), "control");
}

/// In a real handshake: does the server accept, and with how many certificates?
async fn handshake(
    verifier: &Arc<dyn ClientCertVerifier>,
    client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Result<usize, String> {
    let door = Authority::new();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (certificate, key) = door.issue(params);
    let cell = CertificateCell::new(vec![certificate], key).unwrap();
    let server = server_config(cell, Clients::Certified(Arc::clone(verifier)), true, &[b"http/1.1"]);

    let mut roots = RootCertStore::empty();
    roots.add(door.certificate).unwrap();
    let server_verifier: Arc<dyn ServerCertVerifier> =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(server_verifier);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connecting =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), near);
    let (accepted, _) = tokio::join!(TlsAcceptor::from(Arc::new(server)).accept(far), connecting);
    let stream = accepted.map_err(|error| error.to_string())?;
    Ok(stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len))
}

#[tokio::test]
async fn the_tunnel_requires_what_http_only_offers() {
    let case = Case::new();
    let device =
        || case.authority.issue(device_params("cam-01", "cam-01.default.device.abcd2345.tcpmux.internal"));
    assert!(handshake(&case.tunnel, None).await.is_err());
    assert_eq!(handshake(&case.http, None).await, Ok(0));
    assert_eq!(handshake(&case.tunnel, Some(device())).await, Ok(1));
    assert_eq!(handshake(&case.http, Some(device())).await, Ok(1));
    let foreign =
        || Authority::new().issue(device_params("cam-01", "cam-01.default.device.abcd2345.tcpmux.internal"));
    assert!(handshake(&case.tunnel, Some(foreign())).await.is_err());
    assert!(handshake(&case.http, Some(foreign())).await.is_err(), "a wrong certificate is worse than none");
    let (certificate, _) = device();
    let (_, stolen) = device();
    let mismatched = rustls::sign::CertifiedKey::from_der(vec![certificate], stolen, &provider());
    assert!(mismatched.is_err(), "a certificate without its key cannot even be offered");
}
