//! Limits and times of a session.

use std::time::Duration;

/// What one session may hold and how long it waits; [`Settings::default`] is what the product uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A side that heard nothing for this long sends a ping. The device takes the value of the cloud's
    /// [`Welcome`](crate::Welcome).
    pub heartbeat: Duration,
    /// A peer silent for this long is dead. Replaced by 1.4 × heartbeat when a welcome sets another heartbeat.
    pub silence: Duration,
    /// A socket that takes no byte for this long while bytes wait for it is dead.
    pub write_progress: Duration,
    /// Streams that this side opens at one time; more are [`OpenError::Busy`](crate::OpenError::Busy).
    pub open_streams: usize,
    /// Streams of the peer at one time; more are reset one by one.
    pub inbound_streams: usize,
    /// The widest receive window of one stream, in bytes; at least 256 KiB.
    pub max_window: u32,
    /// How many bytes the windows of a session may have grown beyond 256 KiB each, all together.
    pub window_budget: usize,
    /// How long a peer may take to complete the header of a stream it opened.
    pub header_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(20),
            silence: Duration::from_secs(28),
            write_progress: Duration::from_secs(20),
            open_streams: 512,
            inbound_streams: 1024,
            max_window: 16 << 20,
            window_budget: 64 << 20,
            header_deadline: Duration::from_secs(10),
        }
    }
}
