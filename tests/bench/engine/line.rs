//! A long line in user space: every byte arrives half a round trip later, at the pace of the line.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// There and back.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(100);

/// The near end of a line to this address. It lives as long as its connections.
pub(super) fn to(far: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((caller, _)) = listener.accept() {
            let callee = TcpStream::connect(far).unwrap();
            for socket in [&caller, &callee] {
                socket.set_nodelay(true).unwrap();
            }
            let back = (callee.try_clone().unwrap(), caller.try_clone().unwrap());
            one_way(caller, callee);
            one_way(back.0, back.1);
        }
    });
    near
}

fn one_way(mut from: TcpStream, mut to: TcpStream) {
    let (send, receive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        let mut free = Instant::now();
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // It is on the line once all before it are.
            let now = Instant::now();
            free = free.max(now) + Duration::from_secs_f64(count as f64 / BYTES_PER_SECOND);
            thread::sleep(free - now);
            if send.send((free + ROUND_TRIP / 2, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, bytes)) = receive.recv() {
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                thread::sleep(early);
            }
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// What a good access line carries; four MiB are on their way at this distance.
const BYTES_PER_SECOND: f64 = 40.0 * 1024.0 * 1024.0;
const PIECE: usize = 16 * 1024;
/// Pieces; more than the line can hold.
const ON_THE_WAY: usize = 4096;
