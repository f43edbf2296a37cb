//! The seam between those who need a device and those who hold its session.

use std::{future::Future, io, pin::Pin};

use model::Target;

use crate::{StreamHeader, TunnelStream};

/// A boxed future, so that [`Dialer`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens streams to services of devices, wherever the session of the device is held.
pub trait Dialer: Send + Sync + 'static {
    /// Opens one stream to the target.
    ///
    /// The stream comes back at once, before the device has answered: the header travels with the first bytes
    /// written. Ask [`TunnelStream::accepted`] where the answer is needed before any byte.
    fn open<'a>(
        &'a self,
        target: &'a Target,
        header: StreamHeader,
    ) -> BoxFuture<'a, Result<TunnelStream, OpenError>>;
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// No session of this device is known.
    #[error("the device is not connected")]
    Offline,
    /// The device does not expose a service of this name.
    #[error("the device does not expose this service")]
    UnknownService,
    /// The local service does not take connections.
    #[error("the local service of the device refused the connection")]
    Refused,
    /// The device's own rules do not let this caller in.
    #[error("the device does not allow this caller")]
    Forbidden,
    /// Too many streams are open on this session or pending for this service.
    #[error("too many streams are open on this device")]
    Busy,
    /// No answer within the deadline of the header.
    #[error("the device did not answer in time")]
    TimedOut,
    /// The session takes no new streams; live ones finish.
    #[error("the session of the device is draining")]
    Draining,
    /// The tunnel or the stream ended before the device answered, or the answer made no sense.
    #[error("the tunnel to the device was lost")]
    Lost,
}

impl OpenError {
    /// The error inside an [`io::Error`] that a [`TunnelStream`] returned, however deeply it is wrapped.
    pub fn from_io(error: &io::Error) -> Option<Self> {
        let mut source: &(dyn std::error::Error + 'static) = error.get_ref()?;
        loop {
            if let Some(found) = source.downcast_ref::<Self>() {
                return Some(*found);
            }
            source = match source.downcast_ref::<io::Error>() {
                Some(inner) => inner.get_ref()?,
                None => source.source()?,
            };
        }
    }

    /// The status byte on the wire; `None` for what only the cloud can know.
    pub(crate) fn status(self) -> Option<u8> {
        match self {
            Self::UnknownService => Some(1),
            Self::Refused => Some(2),
            Self::Forbidden => Some(3),
            Self::Busy => Some(4),
            Self::TimedOut => Some(5),
            Self::Draining => Some(6),
            Self::Offline | Self::Lost => None,
        }
    }

    /// Reads a status byte: `Ok` for accepted. A byte that no device of ours sends is [`OpenError::Lost`].
    pub(crate) fn of_status(byte: u8) -> Result<(), Self> {
        match byte {
            STATUS_ACCEPTED => Ok(()),
            1 => Err(Self::UnknownService),
            2 => Err(Self::Refused),
            3 => Err(Self::Forbidden),
            4 => Err(Self::Busy),
            5 => Err(Self::TimedOut),
            6 => Err(Self::Draining),
            _ => Err(Self::Lost),
        }
    }

    fn kind(self) -> io::ErrorKind {
        match self {
            Self::Offline => io::ErrorKind::NotConnected,
            Self::UnknownService => io::ErrorKind::NotFound,
            Self::Refused | Self::Draining => io::ErrorKind::ConnectionRefused,
            Self::Forbidden => io::ErrorKind::PermissionDenied,
            Self::Busy => io::ErrorKind::ResourceBusy,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::Lost => io::ErrorKind::ConnectionAborted,
        }
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// The status byte that says: the local connection stands.
pub(crate) const STATUS_ACCEPTED: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [OpenError; 8] = [
        OpenError::Offline,
        OpenError::UnknownService,
        OpenError::Refused,
        OpenError::Forbidden,
        OpenError::Busy,
        OpenError::TimedOut,
        OpenError::Draining,
        OpenError::Lost,
    ];

    #[test]
    fn an_open_error_is_found_inside_io_errors_however_deep() {
        for error in ALL {
            let direct = io::Error::from(error);
            assert_eq!(OpenError::from_io(&direct), Some(error));
            let wrapped = io::Error::other(io::Error::new(io::ErrorKind::BrokenPipe, direct));
            assert_eq!(OpenError::from_io(&wrapped), Some(error));
        }
        assert_eq!(OpenError::from_io(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
        assert_eq!(OpenError::from_io(&io::Error::other("something else")), None);
    }

    #[test]
    fn every_status_byte_means_one_thing() {
        assert_eq!(OpenError::of_status(STATUS_ACCEPTED), Ok(()));
        for error in ALL {
            match error.status() {
                Some(byte) => assert_eq!(OpenError::of_status(byte), Err(error)),
                None => assert!(matches!(error, OpenError::Offline | OpenError::Lost)),
            }
        }
        for byte in 7..=255 {
            assert_eq!(OpenError::of_status(byte), Err(OpenError::Lost));
        }
    }
}
