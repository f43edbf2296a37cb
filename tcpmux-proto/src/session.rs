//! How a tunnel begins, at both ends: from an encrypted connection to a session that is up.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use model::DisconnectCause;
use tokio::time::{Instant, timeout};

use crate::{
    CloudControl, CloudMessage, ControlError, DeviceControl, DeviceMessage, Driver, Hello, Incoming, Link,
    Refused, SessionHandle, Settings, Welcome,
    control::Control,
    driver::{Arrivals, Shared},
    handle::Guard,
    mux::{FIRST_STREAM, Limits, Role, Session},
    pipe::Pipe,
};

/// Begins the cloud's side of a tunnel on a connection whose TLS handshake is done.
///
/// Spawn the driver, then ask the handshake for the hello. Nothing moves while the driver is not polled.
pub fn cloud<IO: Link>(io: IO, settings: Settings) -> (Driver<IO>, CloudHandshake) {
    let settings = Settings { inbound_streams: 1, ..settings };
    let (driver, guard) = begin(io, &settings, Role::Server);
    (driver, CloudHandshake { guard, settings })
}

/// Begins the device's side of a tunnel on a connection whose TLS handshake is done.
///
/// Spawn the driver, then greet. Nothing moves while the driver is not polled.
pub fn device<IO: Link>(io: IO, settings: Settings) -> (Driver<IO>, DeviceHandshake) {
    let settings = Settings { open_streams: 1, ..settings };
    let (driver, guard) = begin(io, &settings, Role::Client);
    (driver, DeviceHandshake { guard, settings })
}

fn begin<IO: Link>(io: IO, settings: &Settings, role: Role) -> (Driver<IO>, Guard) {
    let limits = Limits {
        open_streams: settings.open_streams,
        inbound_streams: settings.inbound_streams,
        max_window: settings.max_window,
        window_budget: settings.window_budget,
        heartbeat: settings.heartbeat,
        silence: settings.silence,
    };
    let session = Session::new(role, limits, Duration::ZERO);
    let arrivals = (role == Role::Client).then(|| Arrivals::new(settings.header_deadline));
    let now = Instant::now();
    let shared = Arc::new(Shared::new(session, arrivals, now));
    (Driver::new(io, Arc::clone(&shared), settings.write_progress, now), Guard(shared))
}

/// The cloud's side of a tunnel before the device has said hello. Dropped, it ends the session.
#[derive(Debug)]
#[must_use]
pub struct CloudHandshake {
    guard: Guard,
    settings: Settings,
}

impl CloudHandshake {
    /// Waits for the control stream and the device's hello.
    pub async fn hello(self, within: Duration) -> Result<Greeting, GreetError> {
        let Self { guard, settings } = self;
        let shared = Arc::clone(&guard.0);
        let hello = async {
            let arrived = |state: &crate::driver::State| match state.cause {
                _ if state.control_arrived => Some(Ok(())),
                Some(cause) => Some(Err(GreetError::Lost(cause))),
                None => None,
            };
            shared.wait(arrived).await?;
            let mut control = Control::new(Pipe::new(Arc::clone(&shared), FIRST_STREAM, Bytes::new()));
            match control.receive().await {
                Ok(DeviceMessage::Hello(hello)) => Ok(Greeting { hello, control, guard, settings }),
                Ok(_) => Err(GreetError::Unexpected),
                Err(error) => Err(GreetError::of(error, &shared)),
            }
        };
        timeout(within, hello).await.unwrap_or(Err(GreetError::TimedOut))
    }
}

/// A device that said hello and waits for the answer. Dropped without one, the session ends.
#[derive(Debug)]
#[must_use]
pub struct Greeting {
    hello: Hello,
    control: CloudControl,
    guard: Guard,
    settings: Settings,
}

impl Greeting {
    /// What the device said.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Takes the session.
    pub async fn welcome(self, welcome: Welcome) -> Result<(SessionHandle, CloudControl), GreetError> {
        let Self { hello, mut control, guard, settings } = self;
        set_heartbeat(&guard, &settings, welcome.heartbeat);
        let sent = control.send(&CloudMessage::Welcome(welcome)).await;
        sent.map_err(|error| GreetError::of(error, &guard.0))?;
        Ok((SessionHandle::new(guard, hello), control))
    }

    /// Does not take the session: says so, then closes with [`DisconnectCause::Closed`].
    pub async fn refuse(mut self, refused: Refused) {
        // Whether the device heard it or is gone already, the session ends here.
        let _ = self.control.send(&CloudMessage::Refused(refused)).await;
    }
}

/// The device's side of a tunnel before it has said hello. Dropped, it ends the session.
#[derive(Debug)]
#[must_use]
pub struct DeviceHandshake {
    guard: Guard,
    settings: Settings,
}

impl DeviceHandshake {
    /// Says hello and waits for the cloud's answer.
    pub async fn greet(self, hello: Hello, within: Duration) -> Result<Greeted, GreetError> {
        let Self { guard, settings } = self;
        let shared = Arc::clone(&guard.0);
        let opened = shared.act(|state, _| state.session.open());
        let id =
            opened.map_err(|_| GreetError::Lost(shared.look().cause.unwrap_or(DisconnectCause::Lost)))?;
        let mut control: DeviceControl = Control::new(Pipe::new(Arc::clone(&shared), id, Bytes::new()));
        let answer = async {
            match control.send(&DeviceMessage::Hello(hello.clone())).await {
                // A cloud that refuses and hangs up at once is quicker than this: its answer is there to read.
                Ok(()) | Err(ControlError::Stream(_)) => control.receive().await,
                Err(error) => Err(error),
            }
        };
        match timeout(within, answer).await.map_err(|_| GreetError::TimedOut)? {
            Ok(CloudMessage::Welcome(welcome)) => {
                set_heartbeat(&guard, &settings, welcome.heartbeat);
                let incoming = Incoming::new(shared);
                Ok(Greeted { welcome, handle: SessionHandle::new(guard, hello), incoming, control })
            }
            Ok(CloudMessage::Refused(refused)) => Err(GreetError::Refused(refused)),
            Ok(_) => Err(GreetError::Unexpected),
            Err(error) => Err(GreetError::of(error, &shared)),
        }
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
    #[error("the peer did not answer in time")]
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

impl GreetError {
    /// A control stream that failed because the tunnel ended is a lost tunnel.
    fn of(error: ControlError, shared: &Shared) -> Self {
        match shared.look().cause {
            Some(cause) if matches!(error, ControlError::Stream(_) | ControlError::Ended) => {
                Self::Lost(cause)
            }
            _ => Self::Control(error),
        }
    }
}

fn set_heartbeat(guard: &Guard, settings: &Settings, heartbeat: Duration) {
    let heartbeat = heartbeat.clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT);
    if heartbeat != settings.heartbeat {
        guard.0.act(|state, _| {
            state.session.set_times(heartbeat, heartbeat * 7 / 5);
            state.new_times = true;
        });
    }
}

const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(600);
