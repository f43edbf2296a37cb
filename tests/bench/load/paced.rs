//! Small requests at a steady pace: how long each took from the moment at which it was due.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{Way, bulk::move_bytes, connect, histogram, record};

/// A thousand requests a second on four connections.
pub(crate) fn paced(port: u16, time: Duration) -> io::Result<Histogram<u64>> {
    thread::scope(|scope| {
        let all: Vec<_> = (0..CONNECTIONS).map(|nth| scope.spawn(move || one(port, nth, time))).collect();
        let mut times = histogram();
        for one in all {
            times.add(one.join().expect("a connection does not panic")?).expect("the same precision");
        }
        Ok(times)
    })
}

/// The same while one stream downloads as fast as it can; also how fast that was, in MiB/s.
pub(crate) fn paced_beside_download(
    port: u16,
    source: u16,
    time: Duration,
) -> io::Result<(Histogram<u64>, f64)> {
    let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let download = scope.spawn(|| move_bytes(source, Way::Down, &received, &stop));
        thread::sleep(LEAD);
        let (begin, bytes) = (Instant::now(), received.load(Ordering::Relaxed));
        let times = paced(port, time);
        let bytes = received.load(Ordering::Relaxed) - bytes;
        let rate = bytes as f64 / (1024.0 * 1024.0) / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        download.join().expect("a download does not panic")?;
        Ok((times?, rate))
    })
}

fn one(port: u16, nth: u32, time: Duration) -> io::Result<Histogram<u64>> {
    let mut socket = connect(port)?;
    let mut times = histogram();
    request(&mut socket)?;
    let begin = Instant::now() + PACE / CONNECTIONS * nth;
    let mut free = begin;
    for turn in 0.. {
        let due = begin + PACE * turn;
        if due - begin >= time {
            break;
        }
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        // Where the answer before was late, this request has waited since it was due; that the sleep was a little
        // long is nobody's fault.
        let start = if free > due { due } else { Instant::now() };
        request(&mut socket)?;
        free = Instant::now();
        record(&mut times, free - start);
    }
    Ok(times)
}

/// One request and the whole of its answer.
fn request(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let (mut answer, mut buffer) = (Vec::with_capacity(2048), [0; 2048]);
    loop {
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::other("the connection ended within an answer"));
        }
        answer.extend_from_slice(&buffer[..count]);
        match length(&answer) {
            Some(length) if answer.len() >= length => return Ok(()),
            None if answer.len() > 16 * 1024 => return Err(io::Error::other("an answer without a head")),
            _ => {}
        }
    }
}

/// How long an answer is as a whole, once its head is there.
fn length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).ok()?.to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>();
    Some(head + body.ok()?)
}

const CONNECTIONS: u32 = 4;
/// Between two requests of one connection.
const PACE: Duration = Duration::from_millis(4);
const LEAD: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), None);
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), Some(43));
    }
}
