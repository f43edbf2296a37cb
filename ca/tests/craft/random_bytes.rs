//! Whatever comes in, nothing panics, and nothing but what was signed is taken.

use std::sync::LazyLock;

use ca::{CertificateRequest, DeviceCertificate, PublicKey, pem};
use proptest::prelude::*;

use crate::support::{csr::Csr, der::*, house::*, keys::Key};

/// A request with every part that is read, and the certificate of the house.
static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = Key::p256();
    let extensions = [
        extension("2.5.29.19", true, seq(&[])),
        extension("2.5.29.15", true, tlv(3, &[7, 0x80])),
        extension("2.5.29.37", false, seq(&[oid("1.3.6.1.5.5.7.3.2")])),
        extension("2.5.29.17", false, san(&[(0x82, b"cam-01.acme.device.abcd2345.tcpmux.internal")])),
        extension("2.5.29.14", false, octets(&[1; 20])),
        extension("1.2.3.4", false, seq(&[])),
    ];
    Csr::new(&key).extensions(&extensions).attribute("1.2.840.113549.1.9.7", &[utf8("")]).sign(&key)
});

static CERTIFICATE: LazyLock<Vec<u8>> = LazyLock::new(|| House::new().device("cam-01", &Key::p256()).der);

static TBS: LazyLock<(House, Vec<u8>)> = LazyLock::new(|| {
    let house = House::new();
    let profile = ca::Profile::device(&device("cam-01"), &domain(), DAY).unwrap();
    let key = PublicKey::from_spki(&Key::p256().spki()).unwrap();
    let prepared = house.hierarchy.devices().prepare(&profile, &key, serial(1), NOW).unwrap();
    (house, prepared.tbs_der().to_vec())
});

/// A change to some bytes: overwrite, insert, remove, cut, repeat.
#[derive(Debug, Clone)]
enum Change {
    Overwrite(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        8 => (at(), any::<u8>()).prop_map(|(at, octet)| Change::Overwrite(at, octet)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..6)).prop_map(|(at, octets)| Change::Insert(at, octets)),
        1 => (at(), 1..6usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), 1..40usize).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

fn apply(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Overwrite(at, octet) => bytes[at.index(length)] = *octet,
            Change::Insert(at, octets) => {
                let at = at.index(length);
                bytes.splice(at..at, octets.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Change::Cut(at) => bytes.truncate(at.index(length)),
            Change::Repeat(at, count) => {
                let at = at.index(length);
                let piece = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Well-formed DER of any types, to come past the first check.
fn tree() -> impl Strategy<Value = Vec<u8>> {
    let leaf = (
        prop::sample::select(vec![1u8, 2, 3, 4, 5, 6, 0x0c, 0x13, 0x82, 0x86]),
        prop::collection::vec(any::<u8>(), 0..12),
    )
        .prop_map(|(tag, content)| tlv(tag, &content));
    leaf.prop_recursive(6, 64, 8, |inner| {
        (prop::sample::select(vec![0x30u8, 0x31, 0xa0, 0xa3]), prop::collection::vec(inner, 0..8))
            .prop_map(|(tag, parts)| tlv(tag, &parts.concat()))
    })
}

fn read_all(bytes: &[u8]) {
    let _ = CertificateRequest::parse(bytes).map_err(|error| (error.word(), error.to_string()));
    let _ = DeviceCertificate::read(bytes).map(|certificate| certificate.device(&domain()));
    let _ = PublicKey::from_spki(bytes);
    let _ = ca::CaCertificate::read(bytes);
    let _ = TBS.0.hierarchy.devices().recorded(bytes);
    let _ = pem::decode_all(pem::CERTIFICATE, &String::from_utf8_lossy(bytes));
    let _ = ca::PrivateKey::from_pkcs8(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }

    #[test]
    fn arbitrary_trees_never_panic(bytes in tree()) {
        read_all(&bytes);
        prop_assert!(CertificateRequest::parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_request_is_refused_or_says_the_same(changes in prop::collection::vec(change(), 1..4)) {
        let changed = apply(&REQUEST, &changes);
        read_all(&changed);
        if let Ok(request) = CertificateRequest::parse(&changed) {
            prop_assert_eq!(request, CertificateRequest::parse(&REQUEST).unwrap());
        }
    }

    #[test]
    fn a_changed_certificate_never_panics(changes in prop::collection::vec(change(), 1..4)) {
        read_all(&apply(&CERTIFICATE, &changes));
    }

    #[test]
    fn changed_intents_are_refused_or_still_name_one_device_of_the_deployment(changes in prop::collection::vec(change(), 1..3)) {
        let (house, tbs) = &*TBS;
        let changed = apply(tbs, &changes);
        if let Ok(prepared) = house.hierarchy.devices().recorded(&changed) {
            prop_assert_eq!(prepared.tbs_der(), &changed);
            let certificate = house.hierarchy.devices().sign(&house.keys, &prepared).unwrap();
            let read = DeviceCertificate::read(&certificate.der).unwrap();
            prop_assert!(read.device(&domain()).is_ok());
        }
    }
}

#[test]
fn the_unchanged_ones_are_taken() {
    assert!(CertificateRequest::parse(&REQUEST).is_ok());
    assert!(DeviceCertificate::read(&CERTIFICATE).unwrap().device(&domain()).is_ok());
    assert!(TBS.0.hierarchy.devices().recorded(&TBS.1).is_ok());
}

#[test]
fn every_single_bit_of_a_request_matters() {
    let edwards = Key::ed25519();
    for request in [REQUEST.clone(), Csr::new(&edwards).sign(&edwards)] {
        for bit in 0..request.len() * 8 {
            let mut changed = request.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(CertificateRequest::parse(&changed).is_err(), "bit {bit}");
        }
        for end in 0..request.len() {
            assert!(CertificateRequest::parse(&request[..end]).is_err(), "cut at {end}");
        }
    }
}
