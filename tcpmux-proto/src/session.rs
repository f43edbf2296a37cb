//! How a tunnel begins, at both ends: from an encrypted connection to a session that is up.

use std::{
    future::{Future, ready},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use model::DisconnectCause;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    CloudControl, ControlError, DeviceControl, Hello, Incoming, Refused, SessionHandle, Settings, Welcome,
};

/// Begins the cloud's side of a tunnel on a connection whose TLS handshake is done.
///
/// Spawn the driver, then ask the handshake for the hello. Nothing moves while the driver is not polled.
pub fn cloud<IO>(io: IO, settings: Settings) -> (Driver<IO>, CloudHandshake)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _ = settings;
    (Driver { io }, CloudHandshake { _private: () })
}

/// Begins the device's side of a tunnel on a connection whose TLS handshake is done.
///
/// Spawn the driver, then greet. Nothing moves while the driver is not polled.
pub fn device<IO>(io: IO, settings: Settings) -> (Driver<IO>, DeviceHandshake)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _ = settings;
    (Driver { io }, DeviceHandshake { _private: () })
}

/// The one task of a tunnel: moves bytes between the connection and the streams until the session has ended.
///
/// Dropping it ends the session with cause [`DisconnectCause::Lost`].
#[must_use = "a tunnel whose driver is not spawned does nothing"]
pub struct Driver<IO> {
    io: IO,
}

/// How a session ended: what the driver returns.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The cause as others see it.
    pub cause: DisconnectCause,
    /// For the log: the protocol error by name, or the I/O error.
    pub detail: Option<String>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Future for Driver<IO> {
    type Output = Ended;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Ended> {
        let _ = &self.io;
        Poll::Ready(Ended { cause: DisconnectCause::Lost, detail: None })
    }
}

/// The cloud's side of a tunnel before the device has said hello.
#[must_use]
pub struct CloudHandshake {
    _private: (),
}

impl CloudHandshake {
    /// Waits for the control stream and the device's hello.
    pub async fn hello(self, within: Duration) -> Result<Greeting, GreetError> {
        let _ = within;
        ready(Err(GreetError::Lost(DisconnectCause::Lost))).await
    }
}

/// A device that said hello and waits for the answer. Dropped without one, the session ends.
#[must_use]
pub struct Greeting {
    hello: Hello,
}

impl Greeting {
    /// What the device said.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Takes the session.
    pub async fn welcome(self, welcome: Welcome) -> Result<(SessionHandle, CloudControl), GreetError> {
        let _ = welcome;
        ready(Err(GreetError::Lost(DisconnectCause::Lost))).await
    }

    /// Does not take the session: says so, then closes with [`DisconnectCause::Closed`].
    pub async fn refuse(self, refused: Refused) {
        let _ = refused;
        ready(()).await
    }
}

/// The device's side of a tunnel before it has said hello.
#[must_use]
pub struct DeviceHandshake {
    _private: (),
}

impl DeviceHandshake {
    /// Says hello and waits for the cloud's answer.
    pub async fn greet(self, hello: Hello, within: Duration) -> Result<Greeted, GreetError> {
        let _ = (hello, within);
        ready(Err(GreetError::Lost(DisconnectCause::Lost))).await
    }
}

/// A session that the cloud took.
#[derive(Debug)]
pub struct Greeted {
    /// What the cloud said; its heartbeat is in force already.
    pub welcome: Welcome,
    /// The session. Dropping the last clone of it ends the session.
    pub handle: SessionHandle,
    /// The streams that the cloud opens.
    pub incoming: Incoming,
    /// The control stream.
    pub control: DeviceControl,
}

/// Why a session did not come up.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    /// The cloud said no.
    #[error("the cloud refused the session: {:?}", .0.reason)]
    Refused(Refused),
    /// No answer in time.
    #[error("the peer did not answer the hello in time")]
    TimedOut,
    /// The peer said something else than what comes first.
    #[error("the peer did not begin with a hello or its answer")]
    Unexpected,
    /// The control stream failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The tunnel ended before.
    #[error("the tunnel ended before the hello was answered ({})", .0.as_str())]
    Lost(DisconnectCause),
}

#[allow(dead_code)]
struct Unused(PhantomData<()>);
