//! Builds requests, right ones and all kinds of wrong ones.

use super::{der::*, keys::Key};

pub(crate) const EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";

/// A request as its parts; change one, then build.
pub(crate) struct Csr {
    pub(crate) version: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) attributes: Vec<Vec<u8>>,
    pub(crate) algorithm: Vec<u8>,
}

impl Csr {
    pub(crate) fn new(key: &Key) -> Self {
        Self {
            version: int(&[0]),
            subject: cn("cam-01"),
            spki: key.spki(),
            attributes: Vec::new(),
            algorithm: key.algorithm(),
        }
    }

    pub(crate) fn subject(mut self, name: Vec<u8>) -> Self {
        self.subject = name;
        self
    }

    pub(crate) fn spki(mut self, spki: Vec<u8>) -> Self {
        self.spki = spki;
        self
    }

    pub(crate) fn attribute(mut self, kind: &str, values: &[Vec<u8>]) -> Self {
        self.attributes.push(seq(&[oid(kind), set(values)]));
        self
    }

    pub(crate) fn extensions(self, extensions: &[Vec<u8>]) -> Self {
        self.attribute(EXTENSION_REQUEST, &[seq(extensions)])
    }

    pub(crate) fn extension(self, id: &str, critical: bool, value: Vec<u8>) -> Self {
        self.extensions(&[extension(id, critical, value)])
    }

    pub(crate) fn info(&self) -> Vec<u8> {
        let mut attributes = self.attributes.clone();
        attributes.sort();
        self.info_with(&tlv(0xa0, &attributes.concat()))
    }

    pub(crate) fn info_with(&self, attributes: &[u8]) -> Vec<u8> {
        seq(&[self.version.clone(), self.subject.clone(), self.spki.clone(), attributes.to_vec()])
    }

    pub(crate) fn sign(&self, key: &Key) -> Vec<u8> {
        self.sign_info(&self.info(), key)
    }

    /// Signs whatever stands in for the CertificationRequestInfo.
    pub(crate) fn sign_info(&self, info: &[u8], key: &Key) -> Vec<u8> {
        seq(&[info.to_vec(), self.algorithm.clone(), bits(&key.sign(info))])
    }
}
