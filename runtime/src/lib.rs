//! What every process here needs in order to run: time, tasks and their end, randomness, logs,
//! back-off, fault points, TLS settings, accept loops, sockets, private files.
//!
//! Behind features: `http` (route tables, serving, problem documents), `jose` (key sets and token
//! checks) and `request-body` (for a server of its own). Knows no domain room.

mod backoff;
mod clock;
pub mod digest;
mod fault;
mod handshakes;
#[cfg(feature = "http")]
mod inline;
pub mod listen;
pub mod logs;
pub mod private_file;
pub mod random;
mod read_ahead;
pub mod records;
#[cfg(feature = "request-body")]
mod request_body;
mod signal;
pub mod sockets;
mod tasks;
pub mod tls;

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "jose")]
pub mod jose;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock};
pub use fault::FaultPoints;
pub use handshakes::{HandshakeCounts, Handshakes};
pub use read_ahead::ReadAhead;
pub use records::Records;
#[cfg(feature = "request-body")]
pub use request_body::RequestBody;
pub use signal::termination;
pub use tasks::Tasks;
