//! Loads. HTTP at full speed comes from wrk; round trips, bytes and paced requests from threads of our own, so that no
//! scheduler stands between the clock and the socket.

mod bulk;
mod paced;
mod trips;
mod wrk;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use hdrhistogram::Histogram;

pub(crate) use bulk::{Way, bulk};
pub(crate) use paced::{paced, paced_beside_download};
pub(crate) use trips::echo;
pub(crate) use wrk::wrk;

/// A connection that never waits for ever.
fn connect(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Nanoseconds, to three digits; it grows with what it is given.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are a precision")
}

fn record(times: &mut Histogram<u64>, time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).expect("no measure takes centuries");
    times.record(nanoseconds).expect("it grows");
}

/// A quantile in units of so many nanoseconds.
pub(crate) fn quantile(times: &Histogram<u64>, quantile: f64, unit: Duration) -> f64 {
    times.value_at_quantile(quantile) as f64 / unit.as_nanos() as f64
}

/// Ports of loopback that are free at this moment.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_told_in_the_unit_that_was_asked_for() {
        let mut times = histogram();
        for milliseconds in 1..=100 {
            record(&mut times, Duration::from_millis(milliseconds));
        }
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.002;
        assert!(near(quantile(&times, 0.5, Duration::from_micros(1)), 50_000.0));
        assert!(near(quantile(&times, 0.99, Duration::from_millis(1)), 99.0));
    }
}
