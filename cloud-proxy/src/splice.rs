//! Bytes both ways between a client and a stream, until one of them is done.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tcpmux_proto::{Duplex, Gather, Pieces};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    time::Instant,
};

use crate::account::Bytes;

/// What the end of one direction means for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Each direction ends for itself, as with TCP.
    Each,
    /// Both end with the first, as with a WebSocket. What the device still has to say after the client ended is
    /// waited for a little; without that, the client's last bytes could be overtaken by the reset.
    Together,
}

/// Why a splice ended.
#[derive(Debug)]
pub(crate) enum SpliceEnd {
    /// Both sides finished.
    Finished,
    /// The client's side broke.
    Client,
    /// The device's side broke: reset, or the tunnel was lost.
    Device(io::Error),
    /// No byte for too long.
    Idle,
}

/// Copies until one direction of a WebSocket ended, and what is left of the other for a little. Both ends are dropped
/// by then, except after [`SpliceEnd::Device`] and the like, where the caller has to make the client see an abnormal
/// end.
pub(crate) async fn splice<C, D>(client: &mut C, device: &mut D, idle: Duration, bytes: &Bytes) -> SpliceEnd
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_read, mut client_write) = split(client);
    let (mut device_read, mut device_write) = split(device);
    let moved = Moved::now();
    let up = copy(&mut client_read, &mut device_write, &moved, |count| bytes.up(count));
    let down = copy(&mut device_read, &mut client_write, &moved, |count| bytes.down(count));
    until_done(up, down, Ends::Together, idle, &moved).await
}

/// The same for a raw connection and a stream, until both directions ended, and no byte copied on the way.
pub(crate) async fn splice_raw(
    client: &mut TcpStream,
    device: &Duplex,
    idle: Duration,
    bytes: &Bytes,
) -> SpliceEnd {
    let (mut client_read, mut client_write) = client.split();
    let moved = Moved::now();
    let up = async {
        let mut gather = Gather::default();
        loop {
            let count = gather.fill(&mut client_read).await.map_err(Broken::Reading)?;
            if count == 0 {
                return device.shutdown().await.map_err(Broken::Writing);
            }
            moved.note();
            gather.pass_to(device).await.map_err(Broken::Writing)?;
            moved.note();
            bytes.up(count);
        }
    };
    let down = async {
        let mut pieces = Pieces::default();
        loop {
            let count = device.take(AT_ONCE, &mut pieces).await.map_err(Broken::Reading)?;
            if count == 0 {
                return client_write.shutdown().await.map_err(Broken::Writing);
            }
            moved.note();
            pieces.write_to(&mut client_write).await.map_err(Broken::Writing)?;
            moved.note();
            bytes.down(count);
        }
    };
    until_done(up, down, Ends::Each, idle, &moved).await
}

async fn until_done(
    up: impl Future<Output = Result<(), Broken>>,
    down: impl Future<Output = Result<(), Broken>>,
    ends: Ends,
    idle: Duration,
    moved: &Moved,
) -> SpliceEnd {
    let both = async {
        let (mut up, mut down) = (pin!(up), pin!(down));
        tokio::select! {
            ended = &mut up => match ended {
                Err(Broken::Reading(_)) => SpliceEnd::Client,
                Err(Broken::Writing(error)) => SpliceEnd::Device(error),
                Ok(()) => finish(down, ends, false).await,
            },
            ended = &mut down => match ended {
                Err(Broken::Reading(error)) => SpliceEnd::Device(error),
                Err(Broken::Writing(_)) => SpliceEnd::Client,
                Ok(()) => finish(up, ends, true).await,
            },
        }
    };
    tokio::select! {
        end = both => end,
        () = moved.idle_for(idle) => SpliceEnd::Idle,
    }
}

/// Waits for the direction that is left, as far as it matters.
async fn finish(rest: impl Future<Output = Result<(), Broken>>, ends: Ends, device_ended: bool) -> SpliceEnd {
    let ended = match (ends, device_ended) {
        (Ends::Each, _) => rest.await,
        (Ends::Together, true) => return SpliceEnd::Finished,
        (Ends::Together, false) => match tokio::time::timeout(LINGER, rest).await {
            Ok(ended) => ended,
            Err(_) => return SpliceEnd::Finished,
        },
    };
    match (ended, device_ended) {
        (Ok(()), _) => SpliceEnd::Finished,
        (Err(Broken::Reading(_)), true) | (Err(Broken::Writing(_)), false) => SpliceEnd::Client,
        (Err(Broken::Reading(error)), false) | (Err(Broken::Writing(error)), true) => {
            SpliceEnd::Device(error)
        }
    }
}

enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

async fn copy(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    moved: &Moved,
    count: impl Fn(usize),
) -> Result<(), Broken> {
    // Small while little is said: most WebSockets are quiet most of the time.
    let mut buffer = vec![0; SMALLEST];
    loop {
        let read = reader.read(&mut buffer).await.map_err(Broken::Reading)?;
        if read == 0 {
            return writer.shutdown().await.map_err(Broken::Writing);
        }
        moved.note();
        writer.write_all(&buffer[..read]).await.map_err(Broken::Writing)?;
        writer.flush().await.map_err(Broken::Writing)?;
        moved.note();
        count(read);
        if read == buffer.len() && read < LARGEST {
            buffer = vec![0; read * 2];
        }
    }
}

/// When a byte last moved in either direction.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    begun: Instant,
    last: Arc<AtomicU64>,
}

impl Moved {
    pub(crate) fn now() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }

    pub(crate) fn note(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Resolves when nothing moved for this long.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let deadline = self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

const SMALLEST: usize = 4 * 1024;
const LARGEST: usize = 32 * 1024;
/// Bytes taken from a stream before they are written.
const AT_ONCE: usize = 64 * 1024;
/// For how long the device may go on after its client ended, where both end together.
const LINGER: Duration = Duration::from_secs(10);
