//! The tunnel protocol: what is said on the one TLS connection between a device and the cloud.
//!
//! This crate speaks; it opens no sockets, knows no HTTP and reads no wall clock. The wire is yamux v0 with our own
//! control stream and stream header, byte by byte in `docs/protocol.md`.
//!
//! # From a connection to a session
//!
//! The cloud, after the TLS handshake:
//! ```ignore
//! let (driver, handshake) = tcpmux_proto::cloud(tls, Settings::default());
//! tasks.spawn(driver);                                       // -> Ended { cause, detail }
//! let greeting = handshake.hello(Duration::from_secs(10)).await?;
//! // greeting.hello(): decide; then one of
//! let (session, mut control) = greeting.welcome(Welcome { .. }).await?;
//! greeting.refuse(Refused { .. }).await;
//! // the control loop: receive() is cancel safe
//! loop { select! { message = control.receive() => .., cause = session.closed() => break } }
//! ```
//! The device:
//! ```ignore
//! let (driver, handshake) = tcpmux_proto::device(tls, Settings::default());
//! tasks.spawn(driver);
//! let Greeted { welcome, handle, mut incoming, mut control } = handshake.greet(hello, within).await?;
//! while let Some(stream) = incoming.next().await {           // each in its own task:
//!     match connect(&stream.header).await {
//!         Ok(local) => { let tunnel = stream.accept().await; copy_bidirectional(tunnel, local).await }
//!         Err(_) => stream.reject(OpenError::Refused),
//!     }
//! }
//! ```
//!
//! # A stream
//!
//! [`SessionHandle::open`] (or a [`Dialer`]) gives a [`TunnelStream`]: `AsyncRead + AsyncWrite`, with end of file,
//! reset and loss as three different things.
//!
//! # Inside
//!
//! The control stream carries [`Hello`] and the messages of [`control`]; a [`StreamHeader`] begins every other
//! stream; [`agent`] has the calls to the daemon itself. Liveness is a matter of the multiplexer: any byte received is life, pings go out when it is quiet.
//!
//! [`testing::Pair`] is a whole tunnel in memory for the tests of other crates.

pub mod agent;
pub mod buffers;
pub mod control;
mod dial;
mod driver;
pub mod frame;
mod handle;
mod hello;
mod incoming;
mod link;
mod local_host;
pub mod mux;
mod open;
mod pieces;
mod pipe;
mod session;
mod settings;
mod stream;
pub mod testing;
mod wire;

pub use control::{CloudControl, CloudMessage, Control, ControlError, DeviceControl, DeviceMessage, Message};
pub use control::{Drain, Goodbye, Ping, Replaced, Status};
pub use dial::{BoxFuture, Dialer, OpenError};
pub use driver::{Driver, Ended};
pub use handle::SessionHandle;
pub use hello::{Hello, Refused, RefusedReason, ServiceOffer, SessionLimits, Welcome};
pub use incoming::{Incoming, IncomingStream};
pub use link::{Buffered, Link};
pub use local_host::{LocalAuthority, LocalAuthorityError, LocalHost};
pub use open::{
    Destination, HeaderError, MAX_ASSERTION, MAX_HEADER, MAX_OPEN_DEADLINE, StreamHeader, StreamKind,
};
pub use pieces::{Duplex, Gather, Pieces};
pub use session::{CloudHandshake, DeviceHandshake, GreetError, Greeted, Greeting, cloud, device};
pub use settings::Settings;
pub use stream::TunnelStream;

/// The ALPN protocol of tunnels.
pub const ALPN: &[u8] = b"tcpmux/1";
