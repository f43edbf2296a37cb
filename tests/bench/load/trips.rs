//! Round trips of 64 bytes on one connection.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{connect, histogram, record};

/// Round trips for so long; the first tenth is not counted.
pub(crate) fn echo(port: u16, time: Duration) -> io::Result<Histogram<u64>> {
    let mut socket = connect(port)?;
    let (mut times, mut buffer) = (histogram(), [0x2a; 64]);
    let begin = Instant::now();
    while begin.elapsed() < time {
        let start = Instant::now();
        socket.write_all(&buffer)?;
        socket.read_exact(&mut buffer)?;
        if start - begin > time / 10 {
            record(&mut times, start.elapsed());
        }
    }
    Ok(times)
}
