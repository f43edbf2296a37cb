//! The multiplexer: a machine fed with bytes and time, drained of bytes, events and deadlines. It does no I/O.
//!
//! [`Session::receive`] takes what the socket gave, whatever waits to be written: reading is never gated by writing.
//! [`Session::transmit`] moves frames to an [`Outbox`]: answers and credit first, then the streams in turn. Time is a
//! [`Duration`](std::time::Duration) since any fixed moment. Every queue is bounded: what streams may queue by windows,
//! what a peer can make us answer by budgets, and exceeding a budget ends the session with a [`ProtocolError`] that
//! names it.
//!
//! The wire is yamux v0. Where the specification leaves room, this machine is strict in what costs and tolerant in
//! what is harmless: `docs/protocol.md` says where.

mod error;
mod flood;
mod ids;
mod outbox;
mod pulse;
mod queue;
mod receive;
mod scheduler;
mod session;
mod stream;
mod streams;
mod transmit;
mod window;

pub use error::{MAX_INBOUND_FRAME, ProtocolError};
pub use ids::Role;
pub use outbox::Outbox;
pub(crate) use session::FIRST_STREAM;
pub use session::{End, Limits, OpenRefused, Session};
pub use streams::{Event, Read, Room};
pub(crate) use transmit::FRAME_PAYLOAD;
