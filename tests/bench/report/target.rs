//! What is to be reached, and whether it was.

use std::fmt;

use super::{OURS, Report, Samples, row_order, summary::number};
use crate::peers;

/// One bound on one of our figures.
struct Target {
    row: &'static str,
    what: String,
    bound: Bound,
}

#[derive(Debug, Clone)]
enum Bound {
    Least(Against),
    Most(Against),
}

#[derive(Debug, Clone)]
enum Against {
    /// A number of the figure's own unit.
    Value(f64),
    /// So many times the best tunnel that encrypts.
    BestEncrypted(f64),
    /// So many times this peer.
    Peer(f64, &'static str),
    /// So many times another figure of somebody.
    Figure { times: f64, row: &'static str, what: String, subject: &'static str },
}

/// Whether one bound was kept.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) row: &'static str,
    pub(super) what: String,
    pub(super) wanted: String,
    pub(super) ours: String,
    pub(super) other: String,
    pub(super) result: String,
}

/// The verdicts on all that this report has figures for.
pub(super) fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut targets = targets();
    targets.sort_by_key(|target| row_order(target.row));
    targets.iter().filter_map(|target| verdict(report, target)).collect()
}

fn verdict(report: &Report, target: &Target) -> Option<Verdict> {
    let figure =
        report.figures.iter().find(|figure| figure.row == target.row && figure.what == target.what)?;
    let ours = report.samples(target.row, &target.what, OURS)?;
    let (sign, against) = match &target.bound {
        Bound::Least(against) => ("≥", against),
        Bound::Most(against) => ("≤", against),
    };
    let times = |times: f64| {
        if (times - 1.0).abs() < 1e-9 { String::new() } else { format!("{} × ", number(times)) }
    };
    let (wanted, other) = match against {
        Against::Value(value) => (format!("{sign} {} {}", number(*value), figure.unit), None),
        Against::BestEncrypted(factor) => {
            (format!("{sign} {}the best encrypted peer", times(*factor)), Some(best(report, target)))
        }
        Against::Peer(factor, peer) => {
            let other = report.samples(target.row, &target.what, peer);
            (format!("{sign} {}{peer}", times(*factor)), Some(other.ok_or_else(|| missing(report, peer))))
        }
        Against::Figure { times: factor, row, what, subject } => {
            let of = if *subject == OURS { format!("its own {what}") } else { format!("{subject}, {what}") };
            let other = report.samples(row, what, subject);
            (
                format!("{sign} {}{of}", times(*factor)),
                Some(other.ok_or_else(|| format!("{of}: not measured"))),
            )
        }
    };
    let shown = ours.summary()?.text();
    let (other_text, result) = match (against, other) {
        (Against::Value(value), _) => (String::new(), judge(&target.bound, ours.summary()?.median / value)),
        (_, Some(Err(reason))) => (String::new(), format!("open: {reason}")),
        (_, None) => (String::new(), "open: nothing to compare with".to_owned()),
        (against, Some(Ok(samples))) => {
            let text = samples.summary()?.text();
            let named = format!("{} {text}", samples.subject);
            match ours.ratio(samples) {
                None => (named, "open: no round has both".to_owned()),
                Some(ratio) => {
                    let result = judge(&target.bound, ratio.median / against.factor());
                    (named, format!("{result}; ratio {}", ratio.text()))
                }
            }
        }
    };
    let (row, what) = (target.row, format!("{}, {}", target.what, figure.unit));
    Some(Verdict { row, what, wanted, ours: shown, other: other_text, result })
}

/// The best among the tunnels that encrypt, at this figure.
fn best<'a>(report: &'a Report, target: &Target) -> Result<&'a Samples, String> {
    let median = |samples: &Samples| samples.summary().map_or(f64::NAN, |summary| summary.median);
    let measured =
        peers::encrypted_tunnels().filter_map(|peer| report.samples(target.row, &target.what, peer));
    let best = match target.bound {
        Bound::Least(_) => measured.max_by(|a, b| median(a).total_cmp(&median(b))),
        Bound::Most(_) => measured.min_by(|a, b| median(a).total_cmp(&median(b))),
    };
    best.ok_or_else(|| "no encrypted peer was measured".to_owned())
}

fn missing(report: &Report, peer: &str) -> String {
    report
        .skipped
        .get(peer)
        .map_or_else(|| format!("{peer} was not measured"), |reason| format!("{peer}: {reason}"))
}

/// `reached` is what we have as a share of what the bound asks.
fn judge(bound: &Bound, reached: f64) -> String {
    let off = match bound {
        Bound::Least(_) => 1.0 - reached,
        Bound::Most(_) => reached - 1.0,
    };
    if off <= 0.0 { "met".to_owned() } else { format!("MISSED by {:.0} %", (off * 100.0).ceil()) }
}

impl Against {
    fn factor(&self) -> f64 {
        match self {
            Self::Value(_) => 1.0,
            Self::BestEncrypted(times) | Self::Peer(times, _) | Self::Figure { times, .. } => *times,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, what, wanted, ours, other, result } = self;
        write!(f, "{row:<4} {what}: {ours}; wanted {wanted}")?;
        if !other.is_empty() {
            write!(f, " [{other}]")?;
        }
        write!(f, ": {result}")
    }
}

/// The table of goals, in the words of the measures.
fn targets() -> Vec<Target> {
    use Against::{BestEncrypted, Figure, Peer, Value};
    use Bound::{Least, Most};
    let mut all = vec![];
    let mut add = |row, what: String, bound| all.push(Target { row, what, bound });
    for kind in ["one segment", "two segments"] {
        for connections in [1, 16, 64, 256] {
            let what = format!("{kind}, {connections} connections, requests");
            add("P1", what, Least(BestEncrypted(1.0)));
        }
        add("P1", format!("{kind}, 64 connections, p99"), Most(Value(3.0)));
    }
    add("P2", "16 at once, requests".into(), Least(BestEncrypted(2.0)));
    for quantile in ["p50", "p99"] {
        add("P3", format!("echo, {quantile}"), Most(BestEncrypted(1.0)));
    }
    for streams in ["1 stream", "8 streams"] {
        for way in ["down", "up"] {
            let what = format!("{way}, {streams}");
            add("P4", what.clone(), Least(Peer(2.5, "rathole-tls")));
            add("P4", what.clone(), Least(Peer(1.8, "haproxy")));
            add("P5", what, Most(Peer(0.6, "haproxy")));
        }
    }
    add("P6", "beside a download, p99".into(), Most(Value(0.6)));
    let idle = Figure { times: 2.0, row: "P6", what: "idle, p99".into(), subject: OURS };
    add("P6", "beside a download, p99".into(), Most(idle));
    add("P7", "64 connections, requests".into(), Least(Peer(0.6, "nginx")));
    add("P7", "64 connections, p99".into(), Most(Value(8.0)));
    add("P7", "added to a direct request, p50".into(), Most(Value(200.0)));
    add("P8", "server, for each idle device".into(), Most(Value(16.0)));
    for when in ["before any load", "3 s after load"] {
        add("P8", format!("daemon, resident, {when}"), Most(Value(6.0)));
    }
    add("P8", "daemon, binary".into(), Most(Value(6.0)));
    add("P9", "all devices back after kill -9".into(), Most(Value(30.0)));
    add("P10", "EST clients, 32 at once, enrolments".into(), Least(Value(1000.0)));
    add("P10", "EST clients, 32 at once, an enrolment, p99".into(), Most(Value(50.0)));
    add("P11", "to the last byte, p99".into(), Most(Value(1.0)));
    for what in ["CPU for each request", "open, p50"] {
        let few = Figure { times: 1.1, row: "P12", what: format!("{what}, 10 devices"), subject: OURS };
        add("P12", format!("{what}, the whole fleet"), Most(few));
    }
    add("P12", "start with a million certificates".into(), Most(Value(1.0)));
    let tls = |times, what: &str| Figure { times, row: "E1", what: what.to_owned(), subject: "tls" };
    for way in ["down", "up"] {
        let one = format!("{way}, 1 stream");
        add("E1", one.clone(), Least(tls(0.8, &one)));
        add("E1", format!("{way}, 8 streams"), Least(tls(0.8, &one)));
    }
    let echo = Figure { times: 1.3, row: "E2", what: "echo, p50".into(), subject: "tls" };
    add("E2", "echo, p50".into(), Most(echo));
    add("E3", "echo beside bulk, p99".into(), Most(Value(100.0)));
    add("E3", "bulk meanwhile".into(), Least(tls(0.7, "down, 1 stream")));
    add("E4", "idle, for each connection and end".into(), Most(Value(10.0)));
    let tcp = Figure { times: 0.9, row: "E5", what: "down, 100 ms away".into(), subject: "tcp" };
    add("E5", "down, 100 ms away".into(), Least(tcp));
    add("S6", "received".into(), Least(Value(5000.0 * 0.99)));
    add("S6", "from its sending to a listener, p99".into(), Most(Value(50.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for round in 0..3 {
            report.round(round);
            for (subject, rate) in
                [(OURS, 90.0), ("rathole-tls", 60.0), ("rathole-noise", 50.0), ("haproxy", 500.0)]
            {
                report.put("P1", "one segment, 16 connections, requests", "/s", subject, rate);
                report.put("P2", "16 at once, requests", "/s", subject, rate);
            }
            report.put("P4", "up, 1 stream", "MiB/s", OURS, 90.0);
        }
        report
    }

    #[test]
    fn a_verdict_names_the_best_encrypted_peer_and_by_how_much_it_was_missed() {
        let lines: Vec<String> = verdicts(&report()).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines[0],
            "P1   one segment, 16 connections, requests, /s: 90.0; wanted ≥ the best encrypted \
            peer [rathole-tls 60.0]: met; ratio 1.50"
        );
        assert_eq!(
            lines[1],
            "P2   16 at once, requests, /s: 90.0; wanted ≥ 2.00 × the best encrypted peer \
            [rathole-tls 60.0]: MISSED by 25 %; ratio 1.50"
        );
    }

    #[test]
    fn what_cannot_be_compared_stays_open_and_says_why() {
        let mut report = report();
        report.skipped.insert("haproxy".into(), "not installed".into());
        let lines: Vec<String> = verdicts(&report).iter().map(ToString::to_string).collect();
        assert!(lines[2].ends_with("open: rathole-tls was not measured"), "{}", lines[2]);
        assert!(lines[3].ends_with("open: haproxy: not installed"), "{}", lines[3]);
    }
}
