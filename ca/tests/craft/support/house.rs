//! A hierarchy with its keys in a temporary directory.

use std::{path::PathBuf, time::Duration};

use ca::{Certificate, DeploymentDomain, FileKeys, Hierarchy, Profile, PublicKey};
use model::{DeviceRef, Serial, Timestamp};

use super::keys::Key;

/// 2026-11-21T12:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_262_400);

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct House {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) keys: FileKeys,
}

impl House {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca");
        let hierarchy = Hierarchy::create(&path, &domain(), NOW, serials()).unwrap();
        let keys = FileKeys::open(&path).unwrap();
        Self { directory, hierarchy, keys }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ca")
    }

    /// Issues a device certificate to this key.
    pub(crate) fn device(&self, name: &str, key: &Key) -> Certificate {
        let profile = Profile::device(&device(name), self.hierarchy.domain(), 90 * DAY).unwrap();
        let profile = profile.with_crl_url("http://cloud.example.com:7443/crl/devices.crl").unwrap();
        let public_key = PublicKey::from_spki(&key.spki()).unwrap();
        let devices = self.hierarchy.devices();
        let prepared = devices.prepare(&profile, &public_key, serial(7), NOW).unwrap();
        devices.sign(&self.keys, &prepared).unwrap()
    }

    /// Issues a certificate for a door.
    pub(crate) fn door(&self, names: &[&str], key: &Key) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let addresses = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let profile = Profile::server(&names, &addresses, 30 * DAY).unwrap();
        let public_key = PublicKey::from_spki(&key.spki()).unwrap();
        let services = self.hierarchy.services();
        let prepared = services.prepare(&profile, &public_key, serial(8), NOW).unwrap();
        services.sign(&self.keys, &prepared).unwrap()
    }
}

pub(crate) fn domain() -> DeploymentDomain {
    "abcd2345.tcpmux.internal".parse().unwrap()
}

pub(crate) fn device(name: &str) -> DeviceRef {
    DeviceRef::new("acme".parse().unwrap(), name.parse().unwrap())
}

pub(crate) fn serial(number: u8) -> Serial {
    Serial::from_random(1, [number; 17])
}

pub(crate) fn serials() -> [Serial; 3] {
    [serial(0xa1), serial(0xa2), serial(0xa3)]
}
