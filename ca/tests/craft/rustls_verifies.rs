//! rustls, which guards the doors, accepts our chains and nothing that one intermediate makes for the other.

use std::{sync::Arc, time::Duration};

use ca::{KeyName, KeyStore};
use rustls::{
    CertificateError, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
};

use crate::support::{der::*, house::*, keys::Key};

fn roots(certificate: &[u8]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec())).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn at(day: u32) -> UnixTime {
    let now = NOW.plus(DAY * day).secs();
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap()))
}

fn client(anchor: &[u8], leaf: &[u8], intermediates: &[&[u8]], now: UnixTime) -> Result<(), Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(anchor), provider()).build().unwrap();
    let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    verifier.verify_client_cert(&CertificateDer::from(leaf.to_vec()), &intermediates, now).map(|_| ())
}

fn server(anchor: &[u8], leaf: &[u8], intermediate: &[u8], name: &str) -> Result<(), Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(anchor), provider()).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let leaf = CertificateDer::from(leaf.to_vec());
    verifier
        .verify_server_cert(&leaf, &[CertificateDer::from(intermediate.to_vec())], &name, &[], at(1))
        .map(|_| ())
}

/// A leaf signed by a key of the house behind its back, with this purpose and name.
fn forged(house: &House, by: KeyName, purpose: &str, name: &str) -> Vec<u8> {
    let issuer = if by == KeyName::Devices { "devices" } else { "services" };
    let key = Key::p256();
    let tbs = seq(&[
        tlv(0xa0, &int(&[2])),
        int(&serial(99).0),
        key.algorithm(),
        cn(&format!("tcpmux {issuer} abcd2345.tcpmux.internal")),
        seq(&[tlv(0x17, b"261121110000Z"), tlv(0x17, b"270219120000Z")]),
        cn("cam-01"),
        key.spki(),
        tlv(
            0xa3,
            &seq(&[
                extension("2.5.29.37", false, seq(&[oid(purpose)])),
                extension("2.5.29.17", false, san(&[(0x82, name.as_bytes())])),
            ]),
        ),
    ]);
    seq(&[tbs.clone(), key.algorithm(), bits(&house.keys.sign(by, &tbs).unwrap())])
}

#[test]
fn a_device_alone_verifies_under_the_devices_intermediate() {
    let house = House::new();
    let devices = house.hierarchy.devices().certificate().der();
    for key in [Key::p256(), Key::p384(), Key::ed25519()] {
        let leaf = house.device("cam-01", &key).der;
        client(devices, &leaf, &[], at(1)).unwrap();
        client(house.hierarchy.root().der(), &leaf, &[devices], at(1)).unwrap();
    }
}

#[test]
fn a_device_is_refused_by_the_wrong_anchor_and_at_the_wrong_time() {
    let house = House::new();
    let [root, devices, services] = house.hierarchy.certificates();
    let leaf = house.device("cam-01", &Key::p256()).der;
    client(devices, &leaf, &[], at(89)).unwrap();
    assert!(matches!(client(devices, &leaf, &[], at(91)), Err(Error::InvalidCertificate(_))));
    assert!(client(services, &leaf, &[], at(1)).is_err());
    assert!(client(House::new().hierarchy.devices().certificate().der(), &leaf, &[], at(1)).is_err());
    assert!(client(root, &leaf, &[], at(1)).is_err(), "without the intermediate there is no path");
    assert!(server(root, &leaf, devices, "cam-01.acme.device.abcd2345.tcpmux.internal").is_err());
}

#[test]
fn a_door_verifies_for_its_names_alone() {
    let house = House::new();
    let [root, devices, services] = house.hierarchy.certificates();
    let door = house.door(&["localhost", "cloud.example.com", "*.d.example.com"], &Key::p256()).der;
    for name in ["localhost", "cloud.example.com", "cam-01.d.example.com", "127.0.0.1", "::1"] {
        server(root, &door, services, name).unwrap();
    }
    for name in ["example.com", "a.b.d.example.com", "127.0.0.2"] {
        assert!(server(root, &door, services, name).is_err(), "{name}");
    }
    assert!(client(root, &door, &[services], at(1)).is_err());
    assert!(client(devices, &door, &[], at(1)).is_err());
}

#[test]
fn a_stolen_devices_key_makes_no_door_and_no_other_name() {
    let house = House::new();
    let [root, devices, services] = house.hierarchy.certificates();
    let (client_auth, server_auth) = ("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1");
    let ours = "cam-01.acme.device.abcd2345.tcpmux.internal";
    client(devices, &forged(&house, KeyName::Devices, client_auth, ours), &[], at(1)).expect("the control");
    server(root, &forged(&house, KeyName::Services, server_auth, "localhost"), services, "localhost")
        .expect("the control");

    assert!(server(root, &forged(&house, KeyName::Devices, server_auth, ours), devices, ours).is_err());
    assert!(
        server(root, &forged(&house, KeyName::Devices, server_auth, "localhost"), devices, "localhost")
            .is_err()
    );
    let other = forged(&house, KeyName::Devices, client_auth, "cam-01.acme.device.zzzz2345.tcpmux.internal");
    for answer in [client(devices, &other, &[], at(1)), client(root, &other, &[devices], at(1))] {
        let wrong = matches!(
            answer,
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::NotValidForName))
        );
        assert!(wrong, "{answer:?}");
    }
    assert!(client(root, &forged(&house, KeyName::Services, client_auth, ours), &[services], at(1)).is_err());
}
