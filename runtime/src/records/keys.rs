//! The keys of both directions, and which record is whose turn.

use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, InvalidMessage,
    ProtocolVersion, Tls13CipherSuite,
    client::ClientConnectionData,
    crypto::cipher::{
        AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks,
        OutboundPlainMessage,
    },
    kernel::KernelConnection,
    server::ServerConnectionData,
};

/// What seals and opens the records of one connection.
pub(super) struct Keys {
    source: Source,
    suite: &'static Tls13CipherSuite,
    sealing: Box<dyn MessageEncrypter>,
    sealed: u64,
    /// Records that one key may seal.
    most_sealed: u64,
    opening: Box<dyn MessageDecrypter>,
    opened: u64,
}

/// Where the next keys of a direction come from.
pub(super) enum Source {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
    #[cfg(feature = "fuzzing")]
    Rehearsed(super::fuzzing::Rehearsed),
}

impl Keys {
    pub(super) fn new(source: Source, secrets: ExtractedSecrets) -> Result<Self, Error> {
        let suite = source.suite()?;
        let ((sealed, sealing), (opened, opening)) = (secrets.tx, secrets.rx);
        Ok(Self {
            source,
            suite,
            sealing: encrypter(suite, sealing)?,
            sealed,
            most_sealed: suite.common.confidentiality_limit,
            opening: decrypter(suite, opening)?,
            opened,
        })
    }

    pub(super) fn is_client(&self) -> bool {
        match &self.source {
            Source::Client(_) => true,
            Source::Server(_) => false,
            #[cfg(feature = "fuzzing")]
            Source::Rehearsed(source) => source.is_client,
        }
    }

    /// One record with its header.
    pub(super) fn seal(&mut self, kind: ContentType, chunks: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let payload = OutboundChunks::new(chunks);
        let message = OutboundPlainMessage { typ: kind, version: ProtocolVersion::TLSv1_3, payload };
        let record = self.sealing.encrypt(message, self.sealed)?;
        self.sealed += 1;
        Ok(record.encode())
    }

    /// Opens the body of a record in place; what it holds, and how many bytes at its front.
    pub(super) fn open(&mut self, body: &mut [u8]) -> Result<(ContentType, usize), Error> {
        let message = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, body);
        let plain = self.opening.decrypt(message, self.opened)?;
        self.opened += 1;
        Ok((plain.typ, plain.payload.len()))
    }

    /// Whether a record was sealed with these keys.
    pub(super) fn have_sealed(&self) -> bool {
        self.sealed > 0
    }

    /// Whether so much was sealed with these keys that others are due. One record of the old ones is left, to say so.
    pub(super) fn are_worn(&self) -> bool {
        self.sealed + 1 >= self.most_sealed
    }

    pub(super) fn renew_sealing(&mut self) -> Result<(), Error> {
        let (sealed, secrets) = match &mut self.source {
            Source::Client(source) => source.update_tx_secret(),
            Source::Server(source) => source.update_tx_secret(),
            #[cfg(feature = "fuzzing")]
            Source::Rehearsed(source) => source.update_tx_secret(),
        }?;
        (self.sealed, self.sealing) = (sealed, encrypter(self.suite, secrets)?);
        Ok(())
    }

    pub(super) fn renew_opening(&mut self) -> Result<(), Error> {
        let (opened, secrets) = match &mut self.source {
            Source::Client(source) => source.update_rx_secret(),
            Source::Server(source) => source.update_rx_secret(),
            #[cfg(feature = "fuzzing")]
            Source::Rehearsed(source) => source.update_rx_secret(),
        }?;
        (self.opened, self.opening) = (opened, decrypter(self.suite, secrets)?);
        Ok(())
    }
}

impl Source {
    fn suite(&self) -> Result<&'static Tls13CipherSuite, Error> {
        let suite = match self {
            Self::Client(source) => source.negotiated_cipher_suite(),
            Self::Server(source) => source.negotiated_cipher_suite(),
            #[cfg(feature = "fuzzing")]
            Self::Rehearsed(source) => return Ok(source.suite()),
        };
        suite.tls13().ok_or_else(|| Error::General("these records are those of TLS 1.3".into()))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("suite", &self.suite.common.suite).finish_non_exhaustive()
    }
}

fn encrypter(
    suite: &Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageEncrypter>, Error> {
    let (key, iv) = parts(secrets)?;
    Ok(suite.aead_alg.encrypter(key, iv))
}

fn decrypter(
    suite: &Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = parts(secrets)?;
    Ok(suite.aead_alg.decrypter(key, iv))
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher suite whose keys are not known here".into())),
    }
}

/// A record or message that has no place here.
pub(super) fn unexpected(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: vec![ContentType::ApplicationData], got_type }
}

/// A message that cannot be read.
pub(super) fn malformed() -> Error {
    InvalidMessage::MessageTooShort.into()
}

/// What the peer is told of a fault; nothing where it told us of its own.
pub(super) fn alert_for(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::AlertReceived(_) => return None,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } => AlertDescription::UnexpectedMessage,
        _ => AlertDescription::InternalError,
    })
}

#[cfg(test)]
impl Keys {
    pub(super) fn wear_out_after(&mut self, records: u64) {
        self.most_sealed = records;
    }
}
