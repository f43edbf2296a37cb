//! The median of samples and how far they lie apart.

use super::Samples;

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { median, least, most })
    }

    /// `12.3 (11.9–14.0)`.
    pub(crate) fn text(self) -> String {
        if self.least.to_bits() == self.most.to_bits() {
            return number(self.median);
        }
        format!("{} ({}–{})", number(self.median), number(self.least), number(self.most))
    }
}

impl Samples {
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(self.rounds.values().copied())
    }

    /// This divided by the other, in each round that has both.
    pub(crate) fn ratio(&self, other: &Self) -> Option<Summary> {
        let both = |(round, ours): (&usize, &f64)| Some(ours / other.rounds.get(round)?);
        Summary::of(self.rounds.iter().filter_map(both).filter(|ratio| ratio.is_finite()))
    }
}

/// Three digits that mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rounds: &[(usize, f64)]) -> Samples {
        Samples { subject: "ours".into(), rounds: rounds.iter().copied().collect() }
    }

    #[test]
    fn a_median_stands_between_the_two_in_the_middle() {
        assert_eq!(Summary::of([]), None);
        let odd = Summary::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (2.0, 1.0, 3.0));
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(odd.text(), "2.00 (1.00–3.00)");
    }

    #[test]
    fn a_ratio_is_taken_within_rounds() {
        let (ours, peer) =
            (samples(&[(0, 10.0), (1, 30.0), (3, 7.0)]), samples(&[(0, 5.0), (1, 10.0), (2, 1.0)]));
        let ratio = ours.ratio(&peer).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.5, 2.0, 3.0));
        assert_eq!(ours.ratio(&samples(&[(9, 1.0)])), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let texts = [84_321.0, 1234.0, 43.21, 4.321, 0.04321].map(number);
        assert_eq!(texts, ["84.3k", "1234", "43.2", "4.32", "0.043"]);
    }
}
