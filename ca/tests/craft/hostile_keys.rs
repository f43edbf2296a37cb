//! Requests with keys and signatures that are not taken; rows of the threat table as in `hostile_requests`.

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der},
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    },
};
use ca::{CertificateRequest, KeyKind, PrivateKey, PrivateKeyError, PublicKey};

use crate::support::{csr::*, der::*, keys::*, openssl, table::*, weak_moduli};

#[test]
fn row_19_a_hash_of_another_size_than_the_curve_gives_the_true_key() {
    let directory = tempfile::tempdir().unwrap();
    for (curve, hash, kind) in [
        ("P-256", "-sha384", KeyKind::P256),
        ("P-256", "-sha512", KeyKind::P256),
        ("P-384", "-sha256", KeyKind::P384),
        ("P-384", "-sha512", KeyKind::P384),
    ] {
        let key = format!("-algorithm EC -pkeyopt ec_paramgen_curve:{curve}");
        let der = openssl::request(directory.path(), &key, &format!("{hash} -subj /CN=cam-01"));
        let request = CertificateRequest::parse(&der).unwrap();
        assert_eq!(request.public_key().kind(), kind, "{curve} {hash}");
        openssl::run(directory.path(), "pkey -in key.pem -pubout -outform DER -out spki.der").unwrap();
        assert_eq!(request.spki_der(), std::fs::read(directory.path().join("spki.der")).unwrap());
    }
}

#[test]
fn rows_20_and_21_only_named_curves_and_points_on_them() {
    let key = Key::p256();
    let with = |spki| Csr::new(&key).spki(spki).sign(&key);
    let (large, other) = (Key::p521(), Key::secp256k1());
    let p256 = || oid("1.2.840.10045.3.1.7");
    let Key::Ecdsa { pair, .. } = &key else { unreachable!() };
    let point = aws_lc_rs::signature::KeyPair::public_key(pair).as_ref().to_vec();
    let mut off_curve = point.clone();
    off_curve[64] ^= 1;
    let compressed = [&[2 + (point[64] & 1)], &point[1..33]].concat();
    let hybrid = [&[6 + (point[64] & 1)], &point[1..]].concat();
    let explicit = seq(&[int(&[1]), seq(&[oid("1.2.840.10045.1.1"), int(&[7])])]);
    let bad = "key-type";
    table(&[
        ("P-521", Csr::new(&large).sign(&large), bad),
        ("secp256k1", Csr::new(&other).sign(&other), bad),
        ("P-192", with(ec_spki(oid("1.2.840.10045.3.1.1"), &[4; 49])), bad),
        ("P-224", with(ec_spki(oid("1.3.132.0.33"), &[4; 57])), bad),
        ("brainpoolP256r1", with(ec_spki(oid("1.3.36.3.3.2.8.1.1.7"), &point)), bad),
        ("explicit parameters", with(ec_spki(explicit, &point)), bad),
        ("no parameters", with(ec_spki(Vec::new(), &point)), bad),
        ("NULL parameters", with(ec_spki(vec![5, 0], &point)), bad),
        ("not on the curve", with(ec_spki(p256(), &off_curve)), bad),
        ("at infinity", with(ec_spki(p256(), &[0])), bad),
        ("compressed", with(ec_spki(p256(), &compressed)), bad),
        ("hybrid", with(ec_spki(p256(), &hybrid)), bad),
        ("no octets", with(ec_spki(p256(), &[])), bad),
        ("a P-256 point called P-384", with(ec_spki(oid("1.3.132.0.34"), &point)), bad),
        ("beyond the field", with(ec_spki(p256(), &[&[4][..], &[0xff; 64]].concat())), bad),
        ("Ed25519 of 31 octets", with(ed25519_spki(&[1; 31])), bad),
        ("Ed448", with(seq(&[seq(&[oid("1.3.101.113")]), bits(&[1; 57])])), bad),
        ("X25519", with(seq(&[seq(&[oid("1.3.101.110")]), bits(&[9; 32])])), bad),
        ("ML-DSA-65", with(seq(&[seq(&[oid("2.16.840.1.101.3.4.3.18")]), bits(&[1; 1952])])), bad),
        ("DSA", with(seq(&[seq(&[oid("1.2.840.10040.4.1")]), bits(&int(&[5]))])), bad),
        (
            "unused bits",
            with(seq(&[
                seq(&[oid("1.2.840.10045.2.1"), p256()]),
                tlv(3, &[&[1][..], &[4; 63], &[0; 2]].concat()),
            ])),
            "der",
        ),
        ("control", with(key.spki()), "ok"),
    ]);
}

#[test]
fn row_22_rsa_is_held_to_its_sizes_before_anything_is_computed() {
    let key = Key::p256();
    let with = |modulus: &str, exponent: &[u8]| Csr::new(&key).spki(rsa_spki(modulus, exponent)).sign(&key);
    let bits = |bits: usize| {
        format!("{}{}", if bits.is_multiple_of(8) { "c1" } else { "41" }, "0d".repeat(bits.div_ceil(8) - 1))
    };
    const F4: &[u8] = &[1, 0, 1];
    let (bad, blocked) = ("key-type", "key-blocked");
    table(&[
        ("1024 bits", with(&bits(1024), F4), bad),
        ("2047 bits", with(&bits(2047), F4), bad),
        ("4104 bits", with(&bits(4104), F4), bad),
        ("16384 bits", with(&bits(16_384), F4), bad),
        ("128000 bits", with(&bits(128_000), F4), bad),
        ("8192 bits", with(&bits(8192), F4), bad),
        ("no modulus", with("00", F4), bad),
        ("e = 1", with(&bits(2048), &[1]), bad),
        ("e = 3", with(&bits(2048), &[3]), bad),
        ("even e", with(&bits(2048), &[1, 0, 0]), bad),
        ("a huge e", with(&bits(2048), &[0x41; 256]), bad),
        ("even modulus", with(&format!("{}0c", &bits(2048)[2..]), F4), bad),
        ("even modulus of 2048 bits", with(&format!("c1{}0c", "0d".repeat(254)), F4), blocked),
        ("divisible by 751", with(weak_moduli::SMALL_FACTOR, F4), blocked),
        ("ROCA", with(weak_moduli::ROCA, F4), blocked),
        ("one prime twice", with(weak_moduli::SQUARE, F4), blocked),
        ("neighbouring primes", with(weak_moduli::NEIGHBOURS, F4), blocked),
        ("close primes", with(weak_moduli::CLOSE, F4), blocked),
    ]);
    let negative = seq(&[int(&unhex(&format!("c1{}", "0d".repeat(255)))), int(F4)]);
    let negative =
        seq(&[seq(&[oid("1.2.840.113549.1.1.1"), vec![5, 0]]), crate::support::der::bits(&negative)]);
    assert_eq!(word(&Csr::new(&key).spki(negative).sign(&key)), "der");
}

#[test]
fn row_22_control_a_sound_rsa_key_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    for (bits, hash) in [(2048, "-sha256"), (3072, "-sha512")] {
        let key = format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}");
        let der = openssl::request(directory.path(), &key, &format!("{hash} -subj /CN=cam-01"));
        let request = CertificateRequest::parse(&der).unwrap();
        assert_eq!(request.public_key().kind(), KeyKind::Rsa { bits });
    }
    let odd = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3";
    assert_eq!(word(&openssl::request(directory.path(), odd, "-subj /CN=cam-01")), "key-type");
}

#[test]
fn row_23_keys_that_everyone_has_are_blocked() {
    // The generator of P-256 is the public key of the private key 1; its y is even or odd with the sign.
    let x = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    let y = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let point = |x: &str, y: &str| ec_spki(oid("1.2.840.10045.3.1.7"), &unhex(&format!("04{x}{y}")));
    let blocked = |spki: &[u8]| {
        let error = PublicKey::from_spki(spki).unwrap_err();
        assert!(matches!(error, ca::KeyError::Blocked(_)), "{error:?}");
    };
    blocked(&point(x, y));
    // RFC 6979 §A.2.5.
    let x = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
    let y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    blocked(&point(x, y));
    // RFC 8032 §7.1 test 1, and a point of order 8 with either sign.
    blocked(&ed25519_spki(&unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")));
    let eighth = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc";
    blocked(&ed25519_spki(&unhex(&format!("{eighth}05"))));
    blocked(&ed25519_spki(&unhex(&format!("{eighth}85"))));
    assert!(PublicKey::from_spki(&Key::ed25519().spki()).is_ok());
}

#[test]
fn rows_24_and_25_signature_algorithms_are_taken_to_the_last_byte() {
    let key = Key::p256();
    let with = |parts: &[Vec<u8>]| {
        let mut csr = Csr::new(&key);
        csr.algorithm = seq(parts);
        csr.sign(&key)
    };
    let null = || vec![5, 0];
    let bad = "sig-alg";
    table(&[
        ("ECDSA with SHA-1", with(&[oid("1.2.840.10045.4.1")]), bad),
        ("ECDSA with SHA-224", with(&[oid("1.2.840.10045.4.3.1")]), bad),
        ("ECDSA with NULL", with(&[oid("1.2.840.10045.4.3.2"), null()]), bad),
        ("Ed25519 with NULL", with(&[oid("1.3.101.112"), null()]), bad),
        ("RSA with MD5", with(&[oid("1.2.840.113549.1.1.4"), null()]), bad),
        ("RSA with SHA-1", with(&[oid("1.2.840.113549.1.1.5"), null()]), bad),
        ("RSA without NULL", with(&[oid("1.2.840.113549.1.1.11")]), bad),
        ("RSA with an empty SEQUENCE", with(&[oid("1.2.840.113549.1.1.11"), seq(&[])]), bad),
        ("RSASSA-PSS", with(&[oid("1.2.840.113549.1.1.10"), seq(&[])]), bad),
        ("ML-DSA-65", with(&[oid("2.16.840.1.101.3.4.3.18")]), bad),
        ("no algorithm", with(&[]), bad),
        ("RSA named for an EC key", with(&[oid("1.2.840.113549.1.1.11"), null()]), "csr-signature"),
        ("another hash than was used", with(&[oid("1.2.840.10045.4.3.3")]), "csr-signature"),
        ("control", with(&[oid("1.2.840.10045.4.3.2")]), "ok"),
    ]);
}

#[test]
fn private_keys_of_other_kinds_and_forms_are_refused() {
    let ecdsa = |algorithm| EcdsaKeyPair::generate(algorithm).unwrap();
    let pkcs8 = |algorithm| ecdsa(algorithm).to_pkcs8v1().unwrap().as_ref().to_vec();
    let p256 = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let sec1: EcPrivateKeyRfc5915Der<'_> = p256.private_key().as_der().unwrap();
    let (p256, p384) = (pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING), pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING));
    assert!(PrivateKey::from_pkcs8(&p256).is_ok() && PrivateKey::from_pkcs8(&p384).is_ok(), "the control");
    let ed25519 = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec();
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let relabelled = p256.iter().copied().map(|octet| if octet == 0x07 { 0x06 } else { octet }).collect();
    for (what, key) in [
        ("SEC 1", sec1.as_ref().to_vec()),
        ("Ed25519", ed25519),
        ("RSA", rsa.as_ref().to_vec()),
        ("P-521", pkcs8(&ECDSA_P521_SHA512_ASN1_SIGNING)),
        ("secp256k1", pkcs8(&ECDSA_P256K1_SHA256_ASN1_SIGNING)),
        ("another label", relabelled),
        ("cut", p256[..p256.len() - 1].to_vec()),
        ("a byte more", [&p256[..], &[0]].concat()),
    ] {
        assert!(matches!(PrivateKey::from_pkcs8(&key), Err(PrivateKeyError::Format)), "{what}");
    }
}
