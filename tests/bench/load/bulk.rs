//! Bytes as fast as they pass, on some streams at once.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::connect;
use crate::{backend::Backend, processes::Group};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

/// What passed while it was counted.
pub(crate) struct Passed {
    pub(crate) mib_per_second: f64,
    /// CPU seconds of the processes that it passed through, for each GiB.
    pub(crate) cpu_per_gib: f64,
}

/// Counts at the receiving end, once the streams run.
pub(crate) fn bulk(
    port: u16,
    way: Way,
    streams: usize,
    time: Duration,
    backend: &Backend,
    through: &Group,
) -> io::Result<Passed> {
    let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let one = || {
        let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
        move || move_bytes(port, way, &received, &stop)
    };
    let running: Vec<_> = (0..streams).map(|_| thread::spawn(one())).collect();
    let count = || match way {
        Way::Down => received.load(Ordering::Relaxed),
        Way::Up => backend.received(),
    };
    // The windows grow meanwhile.
    thread::sleep(LEAD);
    let (begin, bytes, cpu) = (Instant::now(), count(), through.cpu_seconds());
    thread::sleep(time);
    let (took, bytes, cpu) = (begin.elapsed(), count() - bytes, through.cpu_seconds() - cpu);
    stop.store(true, Ordering::Relaxed);
    for stream in running {
        stream.join().expect("a stream of bytes does not panic")?;
    }
    if bytes == 0 {
        return Err(io::Error::other("not one byte passed"));
    }
    let mib = bytes as f64 / MIB;
    Ok(Passed { mib_per_second: mib / took.as_secs_f64(), cpu_per_gib: cpu / (mib / 1024.0) })
}

/// Moves bytes until told to stop.
pub(super) fn move_bytes(port: u16, way: Way, received: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut socket = connect(port)?;
    let mut buffer = vec![0x5a; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let count = match way {
            Way::Down => socket.read(&mut buffer)?,
            Way::Up => socket.write(&buffer)?,
        };
        if count == 0 {
            return Err(io::Error::other("a stream of bytes ended by itself"));
        }
        received.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(())
}

const MIB: f64 = 1024.0 * 1024.0;
const LEAD: Duration = Duration::from_millis(250);
