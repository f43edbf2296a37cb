//! The tree of CAs: made once in a ceremony, read at every start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::{Fingerprint, Serial, Timestamp};

use crate::{
    Authority, CaCertificate, CaCertificateError, Certificate, DeploymentDomain, FileKeysError, KeyName,
    KeyStore, KeyStoreError, PrepareError, PrivateKey, PrivateKeyError, Profile, SignError,
    authority::{prepare, sign, verify},
    ca_certificate::Issuer,
    file_keys::{at, create_directory, sync_directory, write_key, write_whole},
    pem,
    profile::BACKDATE,
};

/// A root and its two intermediates. Holds certificates only; keys are in a [`crate::KeyStore`].
#[derive(Debug, Clone)]
pub struct Hierarchy {
    root: CaCertificate,
    devices: Authority,
    services: Authority,
}

/// Why there is no hierarchy.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// A file or directory cannot be used.
    #[error(transparent)]
    Files(#[from] FileKeysError),
    /// There is something in the directory, but not a hierarchy.
    #[error("{0} is neither empty nor a CA: move it away or restore its files from a backup")]
    NotEmpty(String),
    /// A certificate file does not hold what it should.
    #[error("{file}: {reason}; restore the file from a backup")]
    Certificate {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The key store holds another key than the certificate names.
    #[error("the {name} key is not the one in the {name} certificate; restore both from the same backup", name = .0.as_str())]
    OtherKey(KeyName),
    /// The key store does not have a key.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// A CA certificate could not be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A CA certificate could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Hierarchy {
    /// Reads the hierarchy in `dir`, or makes one there: keys, certificates, all or nothing. A ceremony that
    /// a crash cut short leaves `dir` untouched and is begun anew. An existing hierarchy is not changed,
    /// and keeps its own domain.
    pub fn create(
        dir: &Path,
        domain: &DeploymentDomain,
        now: Timestamp,
        serials: [Serial; 3],
    ) -> Result<Self, HierarchyError> {
        if is_made(dir)? {
            return Self::load(dir);
        }
        let beside = beside(dir);
        match fs::remove_dir_all(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&beside)(error).into()),
            _ => {}
        }
        create_directory(&beside)?;
        hold_ceremony(&beside, domain, now, serials)?;
        sync_directory(&beside)?;
        fs::rename(&beside, dir).map_err(at(dir))?;
        sync_directory(dir.parent().unwrap_or(Path::new(".")))?;
        Self::load(dir)
    }

    /// Whether a key store holds the issuing keys of this very hierarchy: an error names the certificate
    /// whose key is another one, as after a backup that was restored in part.
    pub fn check_keys(&self, keys: &dyn KeyStore) -> Result<(), HierarchyError> {
        for authority in [&self.devices, &self.services] {
            let name = authority.key();
            if keys.public_key(name)? != *authority.certificate().public_key() {
                return Err(HierarchyError::OtherKey(name));
            }
        }
        Ok(())
    }

    /// Reads the hierarchy in `dir`. Touches no key.
    pub fn load(dir: &Path) -> Result<Self, HierarchyError> {
        let root = read_certificate(dir, KeyName::Root)?;
        let devices = read_certificate(dir, KeyName::Devices)?;
        let services = read_certificate(dir, KeyName::Services)?;
        let wrong = |name: KeyName, reason: &str| HierarchyError::Certificate {
            file: dir.join(certificate_file(name)).display().to_string(),
            reason: reason.to_owned(),
        };
        for (name, certificate) in
            [(KeyName::Root, &root), (KeyName::Devices, &devices), (KeyName::Services, &services)]
        {
            is_signed_by(certificate, &root).map_err(|reason| wrong(name, reason))?;
        }
        let subtree = devices.permitted_subtree().unwrap_or_default();
        let domain: DeploymentDomain = subtree
            .strip_prefix("device.")
            .and_then(|domain| domain.parse().ok())
            .ok_or_else(|| wrong(KeyName::Devices, "the CA certificate names no deployment domain"))?;
        Ok(Self {
            devices: Authority::new(KeyName::Devices, devices, domain.clone()),
            services: Authority::new(KeyName::Services, services, domain),
            root,
        })
    }

    /// The root.
    pub fn root(&self) -> &CaCertificate {
        &self.root
    }

    /// The issuer of device certificates.
    pub fn devices(&self) -> &Authority {
        &self.devices
    }

    /// The issuer of the doors' certificates.
    pub fn services(&self) -> &Authority {
        &self.services
    }

    /// The deployment's domain, fixed in the *devices* certificate.
    pub fn domain(&self) -> &DeploymentDomain {
        self.devices.domain()
    }

    /// SHA-256 of the root's DER.
    pub fn root_fingerprint(&self) -> Fingerprint {
        self.root.fingerprint()
    }

    /// The root's fingerprint as people compare it: `sha256:<64 hex>`.
    pub fn root_fingerprint_text(&self) -> String {
        format!("sha256:{}", self.root.fingerprint())
    }

    /// All three certificates as DER: what EST's cacerts carries.
    pub fn certificates(&self) -> [&[u8]; 3] {
        [self.root.der(), self.devices.certificate().der(), self.services.certificate().der()]
    }

    /// All three certificates as PEM: root, devices, services.
    pub fn chain_pem(&self) -> String {
        self.certificates().map(|der| pem::encode(pem::CERTIFICATE, der)).concat()
    }
}

/// Where the ceremony works until all is made.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".ceremony");
    dir.with_file_name(name)
}

/// Makes keys and certificates in an empty directory.
fn hold_ceremony(
    dir: &Path,
    domain: &DeploymentDomain,
    now: Timestamp,
    serials: [Serial; 3],
) -> Result<(), HierarchyError> {
    let (root, root_key) = make_root(dir, domain, now, serials[0])?;
    let intermediates = [
        (KeyName::Devices, Profile::devices_intermediate(domain), serials[1]),
        (KeyName::Services, Profile::services_intermediate(domain), serials[2]),
    ];
    for (name, profile, serial) in intermediates {
        let key = PrivateKey::generate()?;
        write_key(dir, name, &key)?;
        let prepared = prepare(&profile, key.public_key(), serial, now, root.issuer())?;
        let certificate = sign(|tbs| root_key.sign_as(KeyName::Root, tbs), &prepared, root.issuer())?;
        write_certificate(dir, name, &certificate)?;
    }
    Ok(())
}

fn make_root(
    dir: &Path,
    domain: &DeploymentDomain,
    now: Timestamp,
    serial: Serial,
) -> Result<(CaCertificate, PrivateKey), HierarchyError> {
    let key = PrivateKey::generate_root()?;
    write_key(dir, KeyName::Root, &key)?;
    let profile = Profile::root(domain);
    let now = Timestamp::from_secs(now.secs());
    let end = now.plus(profile.lifetime);
    let itself = Issuer::of_root(&profile.common_name, key.public_key(), now.minus(BACKDATE), end)
        .expect("a generated root key is P-384, which signs");
    let prepared = prepare(&profile, key.public_key(), serial, now, &itself)?;
    let certificate = sign(|tbs| key.sign_as(KeyName::Root, tbs), &prepared, &itself)?;
    write_certificate(dir, KeyName::Root, &certificate)?;
    let root = CaCertificate::read(&certificate.der).map_err(|error| HierarchyError::Certificate {
        file: "root.crt".into(),
        reason: error.to_string(),
    })?;
    Ok((root, key))
}

/// Whether `dir` holds a hierarchy; an error if it holds something else.
fn is_made(dir: &Path) -> Result<bool, HierarchyError> {
    if dir.join(certificate_file(KeyName::Root)).exists() {
        return Ok(true);
    }
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(HierarchyError::NotEmpty(dir.display().to_string())),
            None => Ok(false),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(dir)(error).into()),
    }
}

fn read_certificate(dir: &Path, name: KeyName) -> Result<CaCertificate, HierarchyError> {
    let path = dir.join(certificate_file(name));
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let wrong = |reason: String| HierarchyError::Certificate { file: path.display().to_string(), reason };
    let der = pem::decode(pem::CERTIFICATE, &text).map_err(|error| wrong(error.to_string()))?;
    CaCertificate::read(&der).map_err(|error: CaCertificateError| wrong(error.to_string()))
}

fn write_certificate(dir: &Path, name: KeyName, certificate: &Certificate) -> Result<(), FileKeysError> {
    write_whole(&dir.join(certificate_file(name)), certificate.pem().as_bytes(), 0o644)
}

fn is_signed_by(certificate: &CaCertificate, root: &CaCertificate) -> Result<(), &'static str> {
    let tbs = certificate.tbs().ok_or("the CA certificate cannot be read")?;
    verify(certificate.der(), tbs, root.issuer()).map_err(|_| "the CA certificate is not signed by this root")
}

fn certificate_file(name: KeyName) -> String {
    format!("{}.crt", name.as_str())
}
