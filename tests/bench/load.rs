//! Loads: wrk for HTTP, our own for bytes and round trips.

use std::{process::Stdio, time::Duration};

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::Instant,
};

pub(crate) struct Run {
    pub(crate) rate: f64,
    pub(crate) p99_ms: f64,
}

/// One run of wrk with one thread.
pub(crate) async fn wrk(url: &str, connections: usize, time: Duration, headers: &[&str]) -> Run {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", "-c", &connections.to_string(), "-d", &format!("{}s", time.as_secs())]);
    for header in headers {
        command.args(["-H", header]);
    }
    let done =
        command.arg(url).stderr(Stdio::piped()).output().await.expect("wrk runs (apt-get install wrk)");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let failed = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors"));
    if let Some(line) = failed.filter(|line| !line.contains("read 0, write 0, timeout 0")) {
        println!("  {url} at {connections}: {}", line.trim());
    }
    let field = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or_else(|| panic!("wrk said: {text}"))
            .to_owned()
    };
    Run { rate: field("Requests/sec").parse().unwrap(), p99_ms: milliseconds(&field("99%")) }
}

/// Round trips of 64 bytes on one connection: p50 and p99 in microseconds.
pub(crate) async fn echo(port: u16, count: usize) -> (f64, f64) {
    let mut socket = connect(port).await;
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    let mut buffer = [0x2a; 64];
    for turn in 0..count + 200 {
        let start = Instant::now();
        socket.write_all(&buffer).await.unwrap();
        socket.read_exact(&mut buffer).await.unwrap();
        if turn >= 200 {
            histogram.record(u64::try_from(start.elapsed().as_nanos()).unwrap()).unwrap();
        }
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    (at(0.5), at(0.99))
}

/// The same while one stream downloads as fast as it can.
pub(crate) async fn echo_beside_bulk(echo_port: u16, source_port: u16) -> (f64, f64) {
    let mut bulk = connect(source_port).await;
    let downloading = async {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(1..) = bulk.read(&mut buffer).await {}
        unreachable!("the source never ends");
    };
    tokio::select! {
        times = echo(echo_port, 2000) => times,
        never = downloading => never,
    }
}

/// MiB/s down on this many connections.
pub(crate) async fn download(port: u16, streams: usize, time: Duration) -> f64 {
    bytes(streams, time, move |deadline| async move {
        let mut socket = connect(port).await;
        let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
        while let Ok(Ok(count @ 1..)) = tokio::time::timeout_at(deadline, socket.read(&mut buffer)).await {
            total += count;
        }
        total
    })
    .await
}

/// MiB/s up on this many connections.
pub(crate) async fn upload(port: u16, streams: usize, time: Duration) -> f64 {
    bytes(streams, time, move |deadline| async move {
        let mut socket = connect(port).await;
        let (buffer, mut total) = (vec![0x5a; 256 * 1024], 0);
        while let Ok(Ok(count)) = tokio::time::timeout_at(deadline, socket.write(&buffer)).await {
            total += count;
        }
        total
    })
    .await
}

async fn bytes<F>(streams: usize, time: Duration, one: impl Fn(Instant) -> F) -> f64
where
    F: Future<Output = usize> + Send + 'static,
{
    let deadline = Instant::now() + time;
    let mut all = JoinSet::new();
    for _ in 0..streams {
        all.spawn(one(deadline));
    }
    let total: usize = all.join_all().await.into_iter().sum();
    total as f64 / (1024.0 * 1024.0) / time.as_secs_f64()
}

/// CPU seconds that these processes have used, user and system.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // Fields after the command's name, which may itself hold spaces: 14 and 15 of proc(5) are ticks of 10 ms.
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    };
    pids.iter().map(of).sum()
}

/// Ports of loopback that are free at this moment.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}

async fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().unwrap() * factor;
        }
    }
    panic!("wrk's `{text}` is no time")
}
