//! From a socket to records: the handshake, made by rustls.

use std::{io, sync::Arc};

use bytes::{Buf, BytesMut};
use rustls::{
    ClientConfig, CommonState, Error, ExtractedSecrets, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    Records,
    keys::{Keys, Source},
};

/// What the handshake said of the other end.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Its chain, leaf first; empty where it showed none.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Makes the server's side of a handshake. `seen` is what was read of the client already: its hello, to choose by.
///
/// The settings must allow TLS 1.3 alone and the extraction of secrets.
///
/// # Errors
/// The connection's, or what rustls says, as [`io::ErrorKind::InvalidData`].
pub async fn accept<IO>(io: IO, config: Arc<ServerConfig>, seen: BytesMut) -> io::Result<(Records<IO>, Peer)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    shake(UnbufferedServerConnection::new(config).map_err(invalid)?, io, seen).await
}

/// Makes the client's side of a handshake. What holds for the settings of [`accept`] holds here.
///
/// # Errors
/// As in [`accept`].
pub async fn connect<IO>(
    io: IO,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<(Records<IO>, Peer)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    shake(UnbufferedClientConnection::new(config, name).map_err(invalid)?, io, BytesMut::new()).await
}

/// Either side of a handshake.
trait Side: Sized {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    fn into_keys(self) -> Result<(ExtractedSecrets, Source), Error>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Source), Error> {
        let (secrets, source) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Source::Server(Box::new(source))))
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Source), Error> {
        let (secrets, source) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Source::Client(Box::new(source))))
    }
}

/// What a step of the handshake asks for next.
enum Next {
    Step,
    Send,
    Receive,
    Done,
}

async fn shake<S, IO>(mut side: S, mut io: IO, mut incoming: BytesMut) -> io::Result<(Records<IO>, Peer)>
where
    S: Side,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut outgoing, mut early) = (Vec::new(), BytesMut::new());
    loop {
        let (used, next) = step(&mut side, &mut incoming, &mut outgoing, &mut early);
        incoming.advance(used);
        match next {
            Ok(Next::Step) => {}
            Ok(Next::Send) => {
                io.write_all(&outgoing).await?;
                io.flush().await?;
                outgoing.clear();
            }
            Ok(Next::Receive) if incoming.len() >= MOST_INCOMING => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a handshake that is too long"));
            }
            Ok(Next::Receive) => {
                incoming.reserve(FLIGHT);
                if io.read_buf(&mut incoming).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(Next::Done) => break,
            Err(error) => {
                // The peer is told why, if it still listens.
                step(&mut side, &mut [], &mut outgoing, &mut early).1.ok();
                io.write_all(&outgoing).await.ok();
                io.flush().await.ok();
                return Err(invalid(error));
            }
        }
    }
    let peer = Peer {
        alpn: side.common().alpn_protocol().map(<[u8]>::to_vec),
        certificates: side.common().peer_certificates().unwrap_or_default().to_vec(),
    };
    let (secrets, source) = side.into_keys().map_err(invalid)?;
    let keys = Keys::new(source, secrets).map_err(invalid)?;
    let has_sealed = keys.have_sealed();
    let mut records = Records::new(io, keys, early, incoming);
    if has_sealed {
        // The provider takes the first number that it sees for zero. After tickets it is not: so other keys, from zero.
        records.renew_sealing().map_err(invalid)?;
    }
    Ok((records, peer))
}

/// One step; how much of what came in it used.
fn step<S: Side>(
    side: &mut S,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
    early: &mut BytesMut,
) -> (usize, Result<Next, Error>) {
    let UnbufferedStatus { mut discard, state } = side.process(incoming);
    let next = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, outgoing).map(|()| Next::Step),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Next::Send)
        }
        ConnectionState::BlockedHandshake => Ok(Next::Receive),
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                early.extend_from_slice(record.payload);
                discard += record.discard;
            }
            Ok(Next::Step)
        }
        ConnectionState::WriteTraffic(_) => Ok(Next::Done),
        _ => Err(Error::General("the peer closed the connection within the handshake".into())),
    });
    (discard, next)
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let begin = outgoing.len();
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Err(EncodeError::AlreadyEncoded) | Ok(_) => 0,
    };
    outgoing.resize(begin + needed, 0);
    data.encode(&mut outgoing[begin..]).map(drop).map_err(|error| Error::General(error.to_string()))
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What one side says at once, as a rule.
const FLIGHT: usize = 4 * 1024;
/// No message of a handshake is longer, with the record that ends it.
const MOST_INCOMING: usize = (64 + 17) * 1024;
