//! Who this device is: its key, its certificate, its cloud and that cloud's CA.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use model::DeviceId;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{CertificateFacts, ServerAddress, StateError};

/// Everything that is needed to connect, read and checked.
#[derive(Debug)]
pub struct Identity {
    /// The cloud's device door.
    pub server: ServerAddress,
    /// The device's name, where the certificate's common name is one.
    pub device: Option<DeviceId>,
    /// What the certificate says.
    pub certificate: CertificateFacts,
    /// The certificate and, for other CAs than ours, what leads to the root; leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The only certificates that the cloud's certificate may lead to.
    pub(crate) anchors: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the three PEM files.
    ///
    /// # Errors
    /// If one is missing or cannot be read, if others than the owner can read the key, or if key
    /// and certificate do not belong together.
    pub fn read(
        server: ServerAddress,
        key: &Path,
        certificate: &Path,
        ca: &Path,
    ) -> Result<Self, StateError> {
        refuse_readable_by_others(key)?;
        let key_der =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| StateError::broken(key, error))?;
        let chain = certificates(certificate)?;
        let anchors = certificates(ca)?;
        let facts =
            CertificateFacts::read(&chain[0]).map_err(|error| StateError::broken(certificate, error))?;
        let provider = runtime::tls::provider();
        rustls::sign::CertifiedKey::from_der(chain.clone(), key_der.clone_key(), &provider).map_err(
            |error| StateError::broken(certificate, format_args!("with {}: {error}", key.display())),
        )?;
        Ok(Self { server, device: facts.device.clone(), certificate: facts, chain, anchors, key: key_der })
    }

    /// The private key, for a TLS configuration alone.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StateError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(list) if list.is_empty() => Err(StateError::broken(path, "holds no certificate")),
        Ok(list) => Ok(list),
        Err(error) => Err(StateError::broken(path, error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StateError> {
    fs::read(path).map_err(|error| StateError::io("read", path, error))
}

/// A key that others could have copied is not an identity any more.
pub(crate) fn refuse_readable_by_others(path: &Path) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(|error| StateError::io("read", path, error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StateError::KeyExposed { path: path.into(), mode }) }
}
