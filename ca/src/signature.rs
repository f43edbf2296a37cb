//! Signature algorithms: how they are named in DER, and what checks them.

use aws_lc_rs::signature::{self, VerificationAlgorithm};

use crate::KeyKind;

/// An algorithm that a request or certificate may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
    Ed25519,
    RsaSha256,
    RsaSha384,
    RsaSha512,
}

impl SignatureAlgorithm {
    /// Recognises a whole AlgorithmIdentifier. Comparing all its bytes also holds the parameters to what
    /// the algorithm demands: absent for ECDSA and Ed25519, NULL for RSA (RFC 5758 §3.2, 8410 §3, 4055 §5).
    pub(crate) fn read(identifier: &[u8]) -> Option<Self> {
        ALL.into_iter().find(|algorithm| algorithm.identifier() == identifier)
    }

    /// The AlgorithmIdentifier.
    pub(crate) fn identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
            Self::EcdsaSha384 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03",
            Self::EcdsaSha512 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04",
            Self::Ed25519 => b"\x30\x05\x06\x03\x2b\x65\x70",
            Self::RsaSha256 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
            Self::RsaSha384 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00",
            Self::RsaSha512 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00",
        }
    }

    /// What checks a signature of this algorithm by a key of that kind; `None` if they do not go together.
    pub(crate) fn verifier(self, key: KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self, key) {
            (Self::EcdsaSha256, KeyKind::P256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, KeyKind::P256) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha512, KeyKind::P256) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::EcdsaSha256, KeyKind::P384) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, KeyKind::P384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::EcdsaSha512, KeyKind::P384) => &signature::ECDSA_P384_SHA512_ASN1,
            (Self::Ed25519, KeyKind::Ed25519) => &signature::ED25519,
            (Self::RsaSha256, KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaSha384, KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaSha512, KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA512,
            _ => return None,
        })
    }

    /// What an issuing key of this kind signs with; `None` for kinds that issue nothing here.
    pub(crate) fn of_issuer(key: KeyKind) -> Option<Self> {
        match key {
            KeyKind::P256 => Some(Self::EcdsaSha256),
            KeyKind::P384 => Some(Self::EcdsaSha384),
            KeyKind::Ed25519 | KeyKind::Rsa { .. } => None,
        }
    }
}

const ALL: [SignatureAlgorithm; 7] = [
    SignatureAlgorithm::EcdsaSha256,
    SignatureAlgorithm::EcdsaSha384,
    SignatureAlgorithm::EcdsaSha512,
    SignatureAlgorithm::Ed25519,
    SignatureAlgorithm::RsaSha256,
    SignatureAlgorithm::RsaSha384,
    SignatureAlgorithm::RsaSha512,
];
