//! Keys of every kind that a hostile or honest device may come with.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};

use super::der::*;

pub(crate) enum Key {
    Ecdsa { pair: EcdsaKeyPair, curve: &'static str, hash: &'static str },
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn p256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, "1.2.840.10045.3.1.7", "1.2.840.10045.4.3.2")
    }

    pub(crate) fn p384() -> Self {
        Self::ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, "1.3.132.0.34", "1.2.840.10045.4.3.3")
    }

    pub(crate) fn p521() -> Self {
        Self::ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING, "1.3.132.0.35", "1.2.840.10045.4.3.4")
    }

    pub(crate) fn secp256k1() -> Self {
        Self::ecdsa(&ECDSA_P256K1_SHA256_ASN1_SIGNING, "1.3.132.0.10", "1.2.840.10045.4.3.2")
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str, hash: &'static str) -> Self {
        Self::Ecdsa { pair: EcdsaKeyPair::generate(algorithm).unwrap(), curve, hash }
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa { pair, curve, .. } => ec_spki(oid(curve), pair.public_key().as_ref()),
            Self::Ed25519(pair) => ed25519_spki(pair.public_key().as_ref()),
        }
    }

    pub(crate) fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa { hash, .. } => seq(&[oid(hash)]),
            Self::Ed25519(_) => seq(&[oid("1.3.101.112")]),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ecdsa { pair, .. } => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// A SubjectPublicKeyInfo of id-ecPublicKey with these parameters.
pub(crate) fn ec_spki(parameters: Vec<u8>, point: &[u8]) -> Vec<u8> {
    seq(&[seq(&[oid("1.2.840.10045.2.1"), parameters]), bits(point)])
}

pub(crate) fn ed25519_spki(key: &[u8]) -> Vec<u8> {
    seq(&[seq(&[oid("1.3.101.112")]), bits(key)])
}

/// A SubjectPublicKeyInfo of rsaEncryption; the modulus as hex without sign octet.
pub(crate) fn rsa_spki(modulus: &str, exponent: &[u8]) -> Vec<u8> {
    let mut modulus = unhex(modulus);
    if modulus[0] & 0x80 != 0 {
        modulus.insert(0, 0);
    }
    let key = seq(&[int(&modulus), int(exponent)]);
    seq(&[seq(&[oid("1.2.840.113549.1.1.1"), vec![5, 0]]), bits(&key)])
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
