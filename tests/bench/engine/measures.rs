//! The measures, from the cloud's end.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Figure, Kind,
    device::{DOWN, ECHO, PIECE, UP},
    line,
    pair::{self, Cloud, Pipe},
};
use crate::processes::Group;

type Figures = Vec<Figure>;

/// MiB/s and CPU seconds per GiB, both ends together, on one stream and on eight.
pub(super) fn bulk(kind: Kind, time: Duration) -> Figures {
    let mut figures = Vec::new();
    for streams in [1, 8] {
        if streams > 1 && !kind.is_multiplexed() {
            continue;
        }
        let of = if streams == 1 { "1 stream".into() } else { format!("{streams} streams") };
        for (name, way) in [("down", DOWN), ("up", UP)] {
            let (bytes, cpu) = pair::run(kind, 1, async |mut ends| {
                transfer(&mut ends[0], streams, way, time / 5).await;
                let before = process_cpu();
                let bytes = transfer(&mut ends[0], streams, way, time).await;
                (bytes as f64, process_cpu() - before)
            });
            let rate = bytes / time.as_secs_f64() / MIB;
            figures.push(Figure { row: "E1", what: format!("{name}, {of}"), unit: "MiB/s", value: rate });
            let (what, value) = (format!("{name}, {of}, CPU"), cpu / (bytes / MIB / 1024.0));
            figures.push(Figure { row: "E1", what, unit: "s/GiB", value });
        }
    }
    figures
}

/// MiB/s on one stream over a long line, once the windows have grown.
pub(super) fn away(kind: Kind, time: Duration) -> Figures {
    let bytes = pair::run_over(kind, 1, line::to, async |mut ends| {
        let pipe = asked(&mut ends[0], DOWN).await;
        let (_, pipe) = one_way(pipe, DOWN, Instant::now() + line::ROUND_TRIP * 20).await;
        one_way(pipe, DOWN, Instant::now() + time).await.0 as f64
    });
    let value = bytes / time.as_secs_f64() / MIB;
    vec![Figure { row: "E5", what: "down, 100 ms away".into(), unit: "MiB/s", value }]
}

/// Round trips on a connection that does nothing else.
pub(super) fn echo(kind: Kind, time: Duration) -> Figures {
    pair::run(kind, 1, async |mut ends| {
        let mut pipe = asked(&mut ends[0], ECHO).await;
        let times = round_trips(&mut pipe, time).await;
        quantiles("E2", "echo", &times)
    })
}

/// Round trips beside a download, and how fast the download was meanwhile.
pub(super) fn beside(kind: Kind, time: Duration) -> Figures {
    pair::run(kind, 1, async |mut ends| {
        let mut bulk = asked(&mut ends[0], DOWN).await;
        let mut pipe = asked(&mut ends[0], ECHO).await;
        let mut bytes = 0;
        let downloading = async {
            let mut buffer = vec![0; PIECE];
            while let Ok(count @ 1..) = bulk.read(&mut buffer).await {
                bytes += count;
            }
            unreachable!("the source never ends");
        };
        let start = Instant::now();
        let times = tokio::select! {
            times = round_trips(&mut pipe, time) => times,
            never = downloading => never,
        };
        let mut figures = quantiles("E3", "echo beside bulk", &times);
        let value = bytes as f64 / start.elapsed().as_secs_f64() / MIB;
        figures.push(Figure { row: "E3", what: "bulk meanwhile".into(), unit: "MiB/s", value });
        figures
    })
}

/// A stream for each round trip, as a tunnel has one for each request.
pub(super) fn open(kind: Kind) -> Figures {
    pair::run(kind, 1, async |mut ends| {
        let (mut histogram, mut buffer) = (histogram(), [0; 64]);
        let before = process_cpu();
        for _ in 0..OPENS {
            let start = Instant::now();
            let mut pipe = ends[0].open().await;
            let mut request = [0x2a; 65];
            request[0] = ECHO;
            pipe.write_all(&request).await.unwrap();
            pipe.flush().await.unwrap();
            pipe.read_exact(&mut buffer).await.unwrap();
            record(&mut histogram, start);
        }
        let mut figures = quantiles("E2", "a stream for each echo", &histogram);
        let value = (process_cpu() - before) * 1e6 / f64::from(OPENS);
        figures.push(Figure { row: "E2", what: "a stream for each echo, CPU".into(), unit: "us", value });
        figures
    })
}

/// KiB of this process for each connection and end.
pub(super) fn idle(kind: Kind) -> f64 {
    pair::run(kind, 50, async |_| ());
    let before = resident_kib();
    pair::run(kind, CONNECTIONS, async |_ends| {
        // Long enough for both ends to have given back what the handshakes needed.
        tokio::time::sleep(Duration::from_secs(3)).await;
        (resident_kib() - before) / (2 * CONNECTIONS) as f64
    })
}

async fn transfer(cloud: &mut Cloud, streams: usize, way: u8, time: Duration) -> usize {
    let mut all = JoinSet::new();
    for _ in 0..streams {
        let pipe = asked(cloud, way).await;
        all.spawn(one_way(pipe, way, Instant::now() + time));
    }
    let done = all.join_all().await;
    let total = done.iter().map(|(bytes, _)| bytes).sum();
    if let Cloud::Single(slot) = cloud {
        // The only stream there is; it goes on with the next transfer.
        *slot = done.into_iter().next().map(|(_, pipe)| pipe);
    }
    total
}

async fn one_way(mut pipe: Pipe, way: u8, until: Instant) -> (usize, Pipe) {
    let (mut buffer, mut total) = (vec![0x5a; PIECE], 0);
    loop {
        let moved =
            async { if way == DOWN { pipe.read(&mut buffer).await } else { pipe.write(&buffer).await } };
        match timeout_at(until, moved).await {
            Ok(Ok(count @ 1..)) => total += count,
            _ => return (total, pipe),
        }
    }
}

async fn asked(cloud: &mut Cloud, way: u8) -> Pipe {
    let mut pipe = cloud.open().await;
    pipe.write_all(&[way]).await.unwrap();
    pipe.flush().await.unwrap();
    pipe
}

async fn round_trips(pipe: &mut Pipe, time: Duration) -> Histogram<u64> {
    let (mut histogram, mut buffer) = (histogram(), [0x2a; 64]);
    let begin = Instant::now();
    while begin.elapsed() < time {
        let start = Instant::now();
        pipe.write_all(&buffer).await.unwrap();
        pipe.flush().await.unwrap();
        pipe.read_exact(&mut buffer).await.unwrap();
        if begin.elapsed() > time / 10 {
            record(&mut histogram, start);
        }
    }
    histogram
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

fn record(histogram: &mut Histogram<u64>, start: Instant) {
    histogram.record(u64::try_from(start.elapsed().as_nanos()).unwrap()).unwrap();
}

fn quantiles(row: &'static str, name: &str, times: &Histogram<u64>) -> Figures {
    let at = |of, quantile| {
        let value = times.value_at_quantile(quantile) as f64 / 1000.0;
        Figure { row, what: format!("{name}, {of}"), unit: "us", value }
    };
    vec![at("p50", 0.5), at("p99", 0.99)]
}

fn process_cpu() -> f64 {
    Group(vec![std::process::id()]).cpu_seconds()
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

const MIB: f64 = 1024.0 * 1024.0;
const OPENS: u32 = 10_000;
const CONNECTIONS: usize = 1000;
