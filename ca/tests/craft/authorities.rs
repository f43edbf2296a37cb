//! What an authority prepares and signs, what it refuses, and how a stored intent is taken up again.

use std::time::{Duration, Instant};

use ca::{
    KeyName, KeyStore, KeyStoreError, LintError, PrepareError, Profile, ProfileError, PublicKey,
    RevokedEntry, SignError,
};
use model::{RevocationReason, Serial, Timestamp};

use crate::support::{der::*, house::*, keys::Key};

fn public(key: &Key) -> PublicKey {
    PublicKey::from_spki(&key.spki()).unwrap()
}

fn profile(house: &House) -> Profile {
    Profile::device(&device("cam-01"), house.hierarchy.domain(), 90 * DAY).unwrap()
}

#[test]
fn a_certificate_is_what_was_prepared() {
    let house = House::new();
    let key = public(&Key::p256());
    let devices = house.hierarchy.devices();
    let now = NOW.plus(DAY);
    let prepared = devices.prepare(&profile(&house), &key, serial(9), now).unwrap();
    assert_eq!(prepared.serial(), serial(9));
    assert_eq!(prepared.not_before(), now.minus(Duration::from_secs(3600)));
    assert_eq!(prepared.not_after(), now.plus(90 * DAY));
    assert_eq!(prepared.spki_sha256(), key.spki_sha256());
    let certificate = devices.sign(&house.keys, &prepared).unwrap();
    assert_eq!((certificate.serial, certificate.not_after), (serial(9), now.plus(90 * DAY)));
    assert!(certificate.der.windows(prepared.tbs_der().len()).any(|window| window == prepared.tbs_der()));
}

#[test]
fn the_same_intent_gives_the_same_bytes() {
    let house = House::new();
    let key = public(&Key::p256());
    let prepare = |serial| house.hierarchy.devices().prepare(&profile(&house), &key, serial, NOW).unwrap();
    assert_eq!(prepare(serial(9)).tbs_der(), prepare(serial(9)).tbs_der());
    assert_ne!(prepare(serial(9)).tbs_der(), prepare(serial(10)).tbs_der());
}

#[test]
fn a_recorded_intent_is_signed_again_after_a_crash() {
    let house = House::new();
    let devices = house.hierarchy.devices();
    for profile in [profile(&house), profile(&house).with_crl_url("http://host/crl/devices.crl").unwrap()] {
        let prepared = devices.prepare(&profile, &public(&Key::ed25519()), serial(9), NOW).unwrap();
        let recorded = devices.recorded(prepared.tbs_der()).unwrap();
        assert_eq!(recorded, prepared);
        let certificate = devices.sign(&house.keys, &recorded).unwrap();
        assert_eq!(certificate.serial, serial(9));
    }
}

#[test]
fn bytes_that_this_authority_did_not_prepare_are_not_signed() {
    let (house, other) = (House::new(), House::new());
    let devices = house.hierarchy.devices();
    let prepared = devices.prepare(&profile(&house), &public(&Key::p256()), serial(9), NOW).unwrap();
    let good = prepared.tbs_der();
    assert!(devices.recorded(good).is_ok(), "the control");

    let foreign =
        other.hierarchy.devices().prepare(&profile(&other), &public(&Key::p256()), serial(9), NOW).unwrap();
    assert!(devices.recorded(foreign.tbs_der()).is_err());
    assert!(house.hierarchy.services().recorded(good).is_err());
    assert!(devices.recorded(&[]).is_err());
    assert!(devices.recorded(&good[..good.len() - 1]).is_err());
    assert!(devices.recorded(&[good, &[0]].concat()).is_err());

    // Any change but one of values that may be other ones: serial, time, and the key itself.
    let changed = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        let mut tbs = good.to_vec();
        tbs[at..at + to.len()].copy_from_slice(to);
        devices.recorded(&tbs)
    };
    let rows: &[(&str, &[u8], &[u8])] = &[
        ("clientAuth to serverAuth", b"\x07\x03\x02", b"\x07\x03\x01"),
        ("digitalSignature to keyCertSign", b"\x03\x02\x07\x80", b"\x03\x02\x02\x04"),
        ("another domain", b"abcd2345.tcpmux.internal0", b"abcd2346.tcpmux.internal0"),
        ("SAN of another type", b"\x82\x2bcam-01.acme", b"\x86\x2bcam-01.acme"),
        ("CN of another device", b"\x0c\x06cam-01", b"\x0c\x06cam-02"),
        ("issuer of another name", b"tcpmux devices", b"tcpmux service"),
        ("SHA-384", b"\x3d\x04\x03\x02", b"\x3d\x04\x03\x03"),
        ("version 2", b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01"),
        ("a serial that is negative", b"\x02\x12\x01\x09", b"\x02\x12\x80\x09"),
        ("issuerAltName", b"\x55\x1d\x11", b"\x55\x1d\x12"),
        ("SKI twice", b"\x55\x1d\x23", b"\x55\x1d\x0e"),
        ("from the year 1950 on", b"\x17\x0d261121", b"\x17\x0d500101"),
    ];
    for (what, from, to) in rows {
        assert!(changed(from, to).is_err(), "{what}");
    }
}

#[test]
fn each_intermediate_signs_its_own_kind_alone() {
    let house = House::new();
    let key = public(&Key::p256());
    let door = Profile::server(&["localhost".into()], &[], 30 * DAY).unwrap();
    let (devices, services) = (house.hierarchy.devices(), house.hierarchy.services());
    let error = devices.prepare(&door, &key, serial(1), NOW).unwrap_err();
    assert_eq!(error, PrepareError::OtherAuthority(KeyName::Services));
    let error = services.prepare(&profile(&house), &key, serial(1), NOW).unwrap_err();
    assert_eq!(error, PrepareError::OtherAuthority(KeyName::Devices));
    let prepared = devices.prepare(&profile(&house), &key, serial(1), NOW).unwrap();
    assert!(matches!(
        services.sign(&house.keys, &prepared),
        Err(SignError::OtherAuthority(KeyName::Devices))
    ));
}

#[test]
fn the_authoritys_own_key_is_not_certified() {
    let house = House::new();
    let own = house.keys.public_key(KeyName::Devices).unwrap();
    let error = house.hierarchy.devices().prepare(&profile(&house), &own, serial(1), NOW).unwrap_err();
    assert!(matches!(error, PrepareError::Key(ca::KeyError::Blocked(_))));
}

#[test]
fn nothing_outlives_its_issuer_or_precedes_it() {
    let house = House::new();
    let key = public(&Key::p256());
    let devices = house.hierarchy.devices();
    let end = devices.certificate().not_after();
    let at = |now| devices.prepare(&profile(&house), &key, serial(1), now);

    let clipped = at(end.minus(10 * DAY)).unwrap();
    assert_eq!(clipped.not_after(), end);
    assert_eq!(at(end.minus(DAY / 2)), Err(PrepareError::IssuerEnds(end)));
    assert_eq!(at(NOW).unwrap().not_before(), NOW.minus(Duration::from_secs(3600)));
    let late = NOW.minus(Duration::from_secs(1800));
    assert_eq!(at(late).unwrap().not_before(), NOW.minus(Duration::from_secs(3600)));
    assert_eq!(at(NOW.minus(DAY)), Err(PrepareError::ClockBehind(NOW.minus(DAY))));
    assert_eq!(at(Timestamp(0)), Err(PrepareError::ClockBehind(Timestamp(0))));
}

#[test]
fn a_serial_that_is_not_of_our_form_is_not_prepared() {
    let house = House::new();
    for bad in [[0; 18], [0x80; 18], [0xff; 18]] {
        let prepared =
            house.hierarchy.devices().prepare(&profile(&house), &public(&Key::p256()), Serial(bad), NOW);
        assert!(matches!(prepared, Err(PrepareError::Lint(LintError::Rule(_)))), "{prepared:?}");
    }
}

#[test]
fn profiles_refuse_what_no_certificate_should_say() {
    let server = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Profile::server(&names, &[], DAY)
    };
    for good in ["localhost", "cloud.example.com", "*.devices.example.com", "a-b.c1"] {
        assert!(server(&[good]).is_ok(), "{good}");
    }
    for bad in ["", "*", "*.", "a.*.b", "A.b", "a b", "a..b", "-a", "a_b", "a\0", "ä.de", &"a".repeat(64)] {
        assert!(matches!(server(&[bad]), Err(ProfileError::HostName(_))), "{bad:?}");
    }
    assert_eq!(server(&[]), Err(ProfileError::Count(0)));
    assert_eq!(server(&["a"; 101]), Err(ProfileError::Count(101)));
    assert_eq!(Profile::server(&["a".into()], &[], Duration::ZERO), Err(ProfileError::Lifetime));
    assert_eq!(Profile::device(&device("a"), &domain(), 4000 * DAY), Err(ProfileError::Lifetime));
    for bad in [
        "https://x/y",
        "http://",
        "ldap://x",
        "http://a b",
        "http://a\n",
        &format!("http://{}", "a".repeat(200)),
    ] {
        let profile = Profile::device(&device("a"), &domain(), DAY).unwrap();
        assert!(matches!(profile.with_crl_url(bad), Err(ProfileError::CrlUrl(_))), "{bad:?}");
    }
}

/// A key store that answers as it is told.
struct Untrustworthy(Result<Vec<u8>, ()>);

impl KeyStore for Untrustworthy {
    fn sign(&self, key: KeyName, _: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        self.0.clone().map_err(|()| KeyStoreError::Unavailable { key, reason: "the token is gone".into() })
    }

    fn public_key(&self, key: KeyName) -> Result<PublicKey, KeyStoreError> {
        Err(KeyStoreError::Absent(key))
    }
}

#[test]
fn a_signature_is_not_trusted_because_the_key_store_gave_it() {
    let house = House::new();
    let devices = house.hierarchy.devices();
    let prepared = devices.prepare(&profile(&house), &public(&Key::p256()), serial(1), NOW).unwrap();
    let other = devices.prepare(&profile(&house), &public(&Key::p256()), serial(2), NOW).unwrap();
    let of_other_bytes = house.keys.sign(KeyName::Devices, other.tbs_der()).unwrap();
    let by_other_key = house.keys.sign(KeyName::Services, prepared.tbs_der()).unwrap();
    for wrong in [of_other_bytes, by_other_key, Vec::new(), vec![0x30, 0], int(&[1])] {
        let answer = devices.sign(&Untrustworthy(Ok(wrong)), &prepared);
        assert!(matches!(answer, Err(SignError::Check(_))), "{answer:?}");
    }
    let gone = devices.sign(&Untrustworthy(Err(())), &prepared);
    assert!(matches!(gone, Err(SignError::KeyStore(KeyStoreError::Unavailable { .. }))));
    let list = devices.revocation_list(&Untrustworthy(Ok(vec![0x30, 0])), 1, NOW, NOW.plus(DAY), []);
    assert!(matches!(list, Err(SignError::Check(_))));
    assert!(devices.sign(&house.keys, &prepared).is_ok(), "the control");
}

#[test]
fn the_running_key_store_does_not_have_the_root() {
    let house = House::new();
    assert!(matches!(house.keys.sign(KeyName::Root, b"x"), Err(KeyStoreError::Absent(KeyName::Root))));
    assert!(matches!(house.keys.public_key(KeyName::Root), Err(KeyStoreError::Absent(KeyName::Root))));
}

#[test]
fn a_list_with_times_that_make_no_sense_is_not_signed() {
    let house = House::new();
    let list = |this_update, next_update, at| {
        let entry = RevokedEntry { serial: serial(1), reason: RevocationReason::Superseded, at };
        house.hierarchy.devices().revocation_list(&house.keys, 1, this_update, next_update, [entry])
    };
    assert!(list(NOW, NOW.plus(DAY), Timestamp(0)).is_ok(), "the control");
    assert!(list(NOW, Timestamp::from_secs(253_402_300_799), NOW).is_ok(), "the last second of 9999");
    let (before, after) = (Timestamp(i64::MIN), Timestamp::from_secs(253_402_300_800));
    for (this_update, next_update, at) in [
        (NOW, NOW, NOW),
        (NOW, NOW.minus(DAY), NOW),
        (NOW, after, NOW),
        (NOW, Timestamp(i64::MAX), NOW),
        (before, NOW, NOW),
        (NOW, NOW.plus(DAY), before),
        (NOW, NOW.plus(DAY), after),
        (NOW, NOW.plus(DAY), Timestamp::from_secs(-62_167_219_201)),
    ] {
        let answer = list(this_update, next_update, at);
        assert!(matches!(answer, Err(SignError::Write(_))), "{this_update:?} {next_update:?} {at:?}");
    }
}

#[test]
fn a_long_revocation_list_is_built_in_a_moment() {
    let house = House::new();
    let entries = (0..100_000u32).map(|number| {
        let mut random = [0; 17];
        random[..4].copy_from_slice(&number.to_be_bytes());
        RevokedEntry {
            serial: Serial::from_random(1, random),
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        }
    });
    let start = started();
    let list =
        house.hierarchy.devices().revocation_list(&house.keys, 7, NOW, NOW.plus(DAY), entries).unwrap();
    let elapsed = start.elapsed();
    println!("a list of 100,000 entries: {} bytes in {elapsed:?}", list.len());
    // The target is a second when optimised; this also runs unoptimised beside other work.
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
    assert!(list.len() > 100_000 * 40);
}

#[expect(clippy::disallowed_methods, reason = "a test measures a duration")]
fn started() -> Instant {
    Instant::now()
}
