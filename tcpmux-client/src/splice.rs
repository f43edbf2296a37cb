//! Bytes both ways between a stream of the tunnel and a local connection.
//!
//! The end of one side is told to the other as what it was: an end as an end, anything else as a reset.
//! Each direction ends on its own.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tcpmux_proto::StreamKind;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::timeout,
};

use crate::local::LocalStream;

/// How a splice ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both directions came to their end.
    Complete,
    /// The cloud's side was reset or lost.
    ByCloud(io::Error),
    /// The local service reset the connection; so did we towards the cloud.
    ByService(io::Error),
}

/// Why one direction stopped early.
enum Stopped {
    Cloud(io::Error),
    Service(io::Error),
}

/// Copies until both directions have ended or one side is gone.
pub(crate) async fn splice<T>(tunnel: T, local: LocalStream, kind: StreamKind) -> Ended
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (from_cloud, to_cloud) = split(tunnel);
    let (from_service, to_service) = split(local);
    let (outcome, service) = both(from_cloud, to_cloud, from_service, to_service).await;
    match outcome {
        Ok(()) => Ended::Complete,
        // Dropping the tunnel's stream resets it.
        Err(Stopped::Service(error)) => Ended::ByService(error),
        Err(Stopped::Cloud(error)) => {
            // A hang-up after the answer is how HTTP streams end. HTTP knows by itself whether a message
            // is complete, and its services log a reset as a fault.
            if kind == StreamKind::Tcp {
                service.abort();
            }
            Ended::ByCloud(error)
        }
    }
}

async fn both<T>(
    mut from_cloud: ReadHalf<T>,
    mut to_cloud: WriteHalf<T>,
    mut from_service: ReadHalf<LocalStream>,
    mut to_service: WriteHalf<LocalStream>,
) -> (Result<(), Stopped>, LocalStream)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let deaf = AtomicBool::new(false);
    let outcome = {
        let mut up = pin!(upwards(&mut from_service, &mut to_cloud));
        let mut down = pin!(downwards(&mut from_cloud, &mut to_service, &deaf));
        // Up first: what a service said before it went away goes out before its end is noticed below.
        tokio::select! {
            biased;
            outcome = &mut up => match outcome {
                // The service answered early and hung up, and its answer is out, whole. A reset now could
                // overtake the answer at the cloud, so what still comes is thrown away for a while.
                Ok(()) if deaf.load(Ordering::Relaxed) => {
                    drop(timeout(LINGER, down).await);
                    Ok(())
                }
                Ok(()) => down.await,
                Err(stopped) => Err(stopped),
            },
            outcome = &mut down => match outcome {
                Ok(()) => up.await,
                Err(stopped) => Err(stopped),
            },
        }
    };
    (outcome, from_service.unsplit(to_service))
}

async fn upwards<T>(
    from_service: &mut ReadHalf<LocalStream>,
    to_cloud: &mut WriteHalf<T>,
) -> Result<(), Stopped>
where
    T: AsyncWrite,
{
    let mut buffer = Buffer::new();
    loop {
        let bytes = buffer.fill(from_service).await.map_err(Stopped::Service)?;
        if bytes.is_empty() {
            return to_cloud.shutdown().await.map_err(Stopped::Cloud);
        }
        to_cloud.write_all(bytes).await.map_err(Stopped::Cloud)?;
        to_cloud.flush().await.map_err(Stopped::Cloud)?;
    }
}

async fn downwards<T>(
    from_cloud: &mut ReadHalf<T>,
    to_service: &mut WriteHalf<LocalStream>,
    deaf: &AtomicBool,
) -> Result<(), Stopped>
where
    T: AsyncRead,
{
    let mut buffer = Buffer::new();
    loop {
        let bytes = buffer.fill(from_cloud).await.map_err(Stopped::Cloud)?;
        let ended = bytes.is_empty();
        let written = async {
            if ended {
                return to_service.shutdown().await;
            }
            to_service.write_all(bytes).await?;
            to_service.flush().await
        };
        // A service that hears no more may still have something to say: its own end or reset, which the
        // other direction meets, decides. Reading goes on, so that a reset of the cloud is noticed.
        if !deaf.load(Ordering::Relaxed) && written.await.is_err() {
            deaf.store(true, Ordering::Relaxed);
        }
        if ended {
            return Ok(());
        }
    }
}

/// Small while little flows, large for bulk.
struct Buffer {
    bytes: Vec<u8>,
    full_reads: u32,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; INTERACTIVE], full_reads: 0 }
    }

    async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<&[u8]> {
        let count = from.read(&mut self.bytes).await?;
        self.full_reads = if count == self.bytes.len() { self.full_reads + 1 } else { 0 };
        let wanted = if self.full_reads >= BULK_AFTER { BULK } else { INTERACTIVE };
        if wanted > self.bytes.len() || (wanted < self.bytes.len() && count <= INTERACTIVE / 4) {
            self.bytes.resize(wanted, 0);
            self.bytes.shrink_to_fit();
            self.full_reads = self.full_reads.min(BULK_AFTER);
        }
        Ok(&self.bytes[..count])
    }
}

const INTERACTIVE: usize = 16 * 1024;
const BULK: usize = 64 * 1024;
/// Full reads in a row that make it bulk.
const BULK_AFTER: u32 = 4;
const LINGER: Duration = Duration::from_secs(5);
