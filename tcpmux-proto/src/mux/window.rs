//! How much a peer may send on one stream, and when it is told that it may send more.

use std::time::Duration;

/// The receive window of one stream.
///
/// It starts at [`INITIAL`] (the wire says so) and grows while the peer fills it within a round trip and growing makes
/// bytes arrive faster: a window that grows for nothing only makes the queue longer in which everybody else stands.
/// It shrinks, by holding credit back since credit given cannot be taken, when its last growth was for nothing and
/// when it is used for a small part only.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// What the peer may have under way and unread at most.
    size: u32,
    /// What the peer may still send.
    open: u32,
    /// Start of the stretch over which delivery is measured, and the bytes delivered in it.
    epoch: Duration,
    delivered: u64,
    /// Start of the longer stretch after which the size is reconsidered, and the most bytes a round trip in it.
    period: Duration,
    peak: u64,
    /// The last growth, until it is known whether it was worth it.
    trial: Option<Trial>,
    /// No growth before this.
    content_until: Duration,
}

/// A growth whose worth is not known yet.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// Bytes a second before it, and the most since.
    before: u64,
    since: u64,
    /// Stretches measured since.
    stretches: u32,
}

/// What growing needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    pub(super) now: Duration,
    pub(super) round_trip: Option<Duration>,
    pub(super) max: u32,
    /// How much the session's windows may still grow.
    pub(super) spare: usize,
}

impl ReceiveWindow {
    pub(super) fn new() -> Self {
        let zero = Duration::ZERO;
        Self {
            size: INITIAL,
            open: INITIAL,
            epoch: zero,
            delivered: 0,
            period: zero,
            peak: 0,
            trial: None,
            content_until: zero,
        }
    }

    /// What the peer may still send.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// The peer announced bytes; `false` when they exceed the window.
    pub(super) fn receive(&mut self, count: u32) -> bool {
        let left = self.open.checked_sub(count);
        self.open = left.unwrap_or(0);
        left.is_some()
    }

    /// The reader took `count` bytes and `unread` remain. Whether credit is worth a frame now.
    pub(super) fn deliver(&mut self, count: usize, unread: usize, tuning: Tuning) -> bool {
        self.measure(count, tuning);
        self.owed(unread) >= self.step()
    }

    /// The least credit that is worth a frame: half of a small window, a quarter of a large one. A sender hears of credit
    /// a step and a round trip after it began the step; in steps of half a window that just holds what is under way, a
    /// third of the path would stay empty.
    fn step(&self) -> u32 {
        (self.size / 2).min((self.size / 4).max(INITIAL))
    }

    /// Gives the credit that is owed, for a WindowUpdate frame that leaves now.
    pub(super) fn grant(&mut self, unread: usize) -> u32 {
        let credit = self.owed(unread);
        self.open += credit;
        credit
    }

    /// How far this window takes from the session's budget.
    pub(super) fn charge(&self, unread: usize) -> usize {
        (self.size as usize).max(self.open as usize + unread).saturating_sub(INITIAL as usize)
    }

    fn owed(&self, unread: usize) -> u32 {
        let used = u32::try_from(unread).unwrap_or(u32::MAX).saturating_add(self.open);
        self.size.saturating_sub(used)
    }

    fn measure(&mut self, count: usize, tuning: Tuning) {
        let Tuning { now, round_trip, max, spare } = tuning;
        self.delivered += count as u64;
        let elapsed = now.saturating_sub(self.epoch);
        let Some(round_trip) = round_trip.map(|rtt| rtt.max(SHORTEST)) else { return };
        // Long enough for a rate that can be compared, however short the path.
        let stretch = round_trip.max(STRETCH);
        if elapsed < stretch {
            return;
        }
        if elapsed > stretch * IDLE_STRETCHES {
            // A pause, not a rate: measure from here.
            (self.delivered, self.epoch) = (count as u64, now);
            self.trial = None;
            return self.reconsider(now);
        }
        let rate = per(self.delivered, elapsed, Duration::from_secs(1));
        let per_round_trip = per(self.delivered, elapsed, round_trip);
        self.peak = self.peak.max(per_round_trip);
        (self.delivered, self.epoch) = (0, now);
        if !self.was_worth_it(rate, now) {
            return;
        }
        if per_round_trip.saturating_mul(2) > u64::from(self.size) {
            if now >= self.content_until {
                self.grow(rate, max, spare);
            }
            (self.peak, self.period) = (0, now);
        } else {
            self.reconsider(now);
        }
    }

    /// Whether the last growth is settled. One that did not pay is taken back, and it stays so for a while.
    fn was_worth_it(&mut self, rate: u64, now: Duration) -> bool {
        let Some(trial) = &mut self.trial else { return true };
        trial.stretches += 1;
        trial.since = trial.since.max(rate);
        // A tenth more.
        let paid = u128::from(trial.since) * 10 >= u128::from(trial.before) * 11;
        if !paid && trial.stretches < TRIAL_STRETCHES {
            return false;
        }
        self.trial = None;
        if !paid {
            self.size = (self.size / 2).max(INITIAL);
            self.content_until = now + PERIOD;
        }
        paid
    }

    fn grow(&mut self, rate: u64, max: u32, spare: usize) {
        let room = u32::try_from(spare).unwrap_or(u32::MAX);
        let grown = self.size.saturating_mul(2).min(max);
        if grown > self.size && grown - self.size <= room {
            self.size = grown;
            self.trial = Some(Trial { before: rate, since: 0, stretches: 0 });
        }
    }

    /// A large window that a period long was used for a small part is halved.
    fn reconsider(&mut self, now: Duration) {
        if now.saturating_sub(self.period) >= PERIOD {
            if self.peak.saturating_mul(8) < u64::from(self.size) {
                self.size = (self.size / 2).max(INITIAL);
            }
            (self.peak, self.period) = (0, now);
        }
    }
}

/// How many bytes fall into a span at the pace of these.
fn per(bytes: u64, elapsed: Duration, span: Duration) -> u64 {
    let share = u128::from(bytes) * span.as_nanos() / elapsed.as_nanos().max(1);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The window every yamux stream begins with.
pub(super) const INITIAL: u32 = 256 * 1024;
/// Shorter round trips are measured as this one: below, timers and schedulers are what is measured.
const SHORTEST: Duration = Duration::from_micros(50);
/// The shortest time over which delivery is measured.
const STRETCH: Duration = Duration::from_millis(4);
/// A stretch this many times as long as it should be was a pause.
const IDLE_STRETCHES: u32 = 8;
/// Stretches until a growth must have shown: its credit takes a round trip, and TCP opens its own window too.
const TRIAL_STRETCHES: u32 = 4;
/// How long a window stays large without need, or small after a growth that was for nothing.
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn tuning(now: Duration) -> Tuning {
        Tuning { now, round_trip: Some(RTT), max: 16 << 20, spare: usize::MAX }
    }

    /// The peer sends all it may once a round trip, up to `rate` bytes; the reader takes all.
    fn run(window: &mut ReceiveWindow, now: &mut Duration, rounds: usize, rate: u32, spare: usize) {
        for _ in 0..rounds {
            *now += RTT;
            let count = window.open().min(rate);
            assert!(window.receive(count));
            if window.deliver(count as usize, 0, Tuning { spare, ..tuning(*now) }) {
                window.grant(0);
            }
        }
    }

    #[test]
    fn a_window_stops_growing_where_that_makes_nothing_faster() {
        // A path that carries 1 MiB a round trip; what is sent beyond that waits in its queues.
        let (mut window, mut now) = (ReceiveWindow::new(), Duration::ZERO);
        let mut largest = 0;
        for _ in 0..80 {
            run(&mut window, &mut now, 1, 1 << 20, usize::MAX);
            largest = largest.max(window.size);
        }
        assert_eq!(window.size, 1 << 20);
        assert_eq!(largest, 2 << 20, "one growth is tried beyond what is of use");
        // A while later it tries again, and a path that has become wider is used.
        for _ in 0..200 {
            run(&mut window, &mut now, 1, 4 << 20, usize::MAX);
        }
        assert!(window.size >= 4 << 20, "{}", window.size);
    }

    #[test]
    fn a_round_trip_that_is_measured_too_long_does_not_blow_a_window_up() {
        // A short path at 1 GB/s whose round trip was measured when it was busy: as 20 ms.
        let (mut window, mut now) = (ReceiveWindow::new(), Duration::ZERO);
        let step = Duration::from_micros(100);
        for _ in 0..50_000 {
            now += step;
            let count = window.open().min(100_000);
            window.receive(count);
            let tuning = Tuning { round_trip: Some(Duration::from_millis(20)), ..tuning(now) };
            if window.deliver(count as usize, 0, tuning) {
                window.grant(0);
            }
            assert!(window.size <= 2 * INITIAL, "{}", window.size);
        }
    }

    #[test]
    fn a_window_doubles_each_round_trip_until_the_cap_while_the_peer_fills_it() {
        let (mut window, mut now) = (ReceiveWindow::new(), Duration::ZERO);
        run(&mut window, &mut now, 20, u32::MAX, usize::MAX);
        assert_eq!(window.size, 16 << 20);
    }

    /// Bytes that arrive in the last of these seconds, over a path of a round trip of 100 ms at this many bytes a
    /// millisecond; the reader takes all at once.
    fn carried(seconds: usize, pace: u32) -> usize {
        let mut window = ReceiveWindow::new();
        let (mut credit, mut carried) = (INITIAL, 0);
        let (mut there, mut back) = (VecDeque::from([0; 50]), VecDeque::from([0; 50]));
        for millisecond in 0..seconds * 1000 {
            credit += back.pop_front().unwrap();
            let sent = credit.min(pace);
            credit -= sent;
            there.push_back(sent);
            let count = there.pop_front().unwrap();
            assert!(window.receive(count));
            let now = Duration::from_millis(millisecond as u64 + 1);
            let is_due = count > 0 && window.deliver(count as usize, 0, tuning(now));
            back.push_back(if is_due { window.grant(0) } else { 0 });
            if millisecond >= (seconds - 1) * 1000 {
                carried += count as usize;
            }
        }
        carried
    }

    #[test]
    fn a_long_path_is_kept_busy_at_any_pace() {
        for mebibytes in [3, 7, 11, 15, 20, 25, 30, 35, 40, 50, 60] {
            let pace = mebibytes * (1 << 20) / 1000;
            let (carried, path) = (carried(8, pace), pace as usize * 1000);
            assert!(carried * 100 > path * 80, "{mebibytes} MiB/s: {} % are carried", carried * 100 / path);
        }
    }

    #[test]
    fn a_window_stays_where_the_peer_sends_less_than_half_of_it() {
        let (mut window, mut now) = (ReceiveWindow::new(), Duration::ZERO);
        run(&mut window, &mut now, 50, INITIAL / 3, usize::MAX);
        assert_eq!(window.size, INITIAL);
    }

    #[test]
    fn a_window_does_not_grow_beyond_the_budget_nor_without_a_measured_round_trip() {
        let (mut window, mut now) = (ReceiveWindow::new(), Duration::ZERO);
        run(&mut window, &mut now, 10, u32::MAX, INITIAL as usize - 1);
        assert_eq!(window.size, INITIAL);
        let mut window = ReceiveWindow::new();
        for second in 1..10 {
            window.receive(INITIAL);
            let now = Duration::from_secs(second);
            assert!(window.deliver(INITIAL as usize, 0, Tuning { round_trip: None, ..tuning(now) }));
            assert_eq!(window.grant(0), INITIAL);
        }
        assert_eq!(window.size, INITIAL);
    }

    #[test]
    fn a_large_window_that_is_hardly_used_shrinks_by_holding_credit_back() {
        let (mut window, mut now) = (ReceiveWindow::new(), Duration::ZERO);
        run(&mut window, &mut now, 20, u32::MAX, usize::MAX);
        let charged = window.charge(0);
        run(&mut window, &mut now, 2000, 100_000, usize::MAX);
        assert_eq!(window.size, 512 * 1024, "more than four times what a round trip brings is kept");
        assert!(window.charge(0) < charged / 8);
    }

    #[test]
    fn bytes_beyond_the_window_are_noticed_and_unread_bytes_hold_credit_back() {
        let mut window = ReceiveWindow::new();
        assert!(window.receive(INITIAL));
        assert!(!window.receive(1));
        let mut window = ReceiveWindow::new();
        window.receive(INITIAL);
        assert!(!window.deliver(1000, INITIAL as usize - 1000, tuning(RTT)), "too little to tell");
        assert!(window.deliver(INITIAL as usize / 2 - 1000, INITIAL as usize / 2, tuning(RTT)));
        assert_eq!(window.grant(INITIAL as usize / 2), INITIAL / 2);
    }
}
