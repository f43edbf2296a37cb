//! Requests as fast as they are answered: wrk with one thread.

use std::{process::Command, time::Duration};

/// What wrk saw.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    /// Requests in a second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// How many were answered.
    pub(crate) requests: f64,
    /// What it complains of, if anything.
    pub(crate) trouble: Option<String>,
}

/// One run of so many whole seconds.
///
/// # Errors
/// If wrk is not there or answers nothing that can be read.
pub(crate) fn wrk(url: &str, connections: usize, time: Duration, headers: &[&str]) -> Result<Run, String> {
    let mut command = Command::new("wrk");
    let (connections, seconds) = (connections.to_string(), format!("{}s", time.as_secs().max(1)));
    command.args(["-t1", "--latency", "--timeout", "5s", "-c", &connections, "-d", &seconds]);
    for header in headers {
        command.args(["-H", header]);
    }
    let done = command.arg(url).output().map_err(|error| format!("wrk (apt-get install wrk): {error}"))?;
    let text = String::from_utf8_lossy(&done.stdout);
    read(&text).ok_or_else(|| format!("wrk {url}: {text}{}", String::from_utf8_lossy(&done.stderr)))
}

fn read(text: &str) -> Option<Run> {
    let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name));
    let last = |name: &str| line(name)?.split_whitespace().last();
    let failed = ["Non-2xx", "Socket errors"].into_iter().filter_map(line).map(str::trim);
    let trouble: Vec<&str> = failed.collect();
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    Some(Run {
        rate: last("Requests/sec")?.parse().ok()?,
        p50_ms: milliseconds(last("50%")?)?,
        p99_ms: milliseconds(last("99%")?)?,
        requests: requests.split_whitespace().next()?.parse().ok()?,
        trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
    })
}

fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let text = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  Thread Stats   Avg\n    \
            Latency   610.01us    1.20ms   9.99ms   90.00%\n  Latency Distribution\n     50%  602.00us\n     75%    \
            1.00ms\n     90%    1.20ms\n     99%    1.31s \n  84321 requests in 1.00s, 99.00MB read\n  Socket errors: \
            connect 0, read 7, write 0, timeout 0\nRequests/sec:  84300.12\nTransfer/sec:     99.00MB\n";
        let run = read(text).unwrap();
        assert_eq!((run.rate, run.p50_ms, run.p99_ms, run.requests), (84300.12, 0.602, 1310.0, 84321.0));
        assert_eq!(run.trouble.as_deref(), Some("Socket errors: connect 0, read 7, write 0, timeout 0"));
        assert_eq!(read("unable to connect to 127.0.0.1:1"), None);
    }
}
