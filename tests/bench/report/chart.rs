//! Plots as SVG: a panel for each figure, a line for each subject, a dot for each round, a bar at the median.

use std::fmt::Write;

use super::{Figure, OURS, Samples, summary::number};

/// All figures of one row, two panels beside each other where there are many.
pub(super) fn draw(row: &str, figures: &[&Figure]) -> String {
    let columns = if figures.len() > 2 { 2 } else { 1 };
    let mut heights = vec![0.0_f64; figures.len().div_ceil(columns)];
    for (index, figure) in figures.iter().enumerate() {
        heights[index / columns] = heights[index / columns].max(height(figure));
    }
    let (width, total) = (WIDTH * columns as f64, heights.iter().sum::<f64>());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {total}\" width=\"{width}\" \
         height=\"{total}\" role=\"img\" aria-label=\"{}\">\n{STYLE}",
        escaped(row)
    );
    let mut top = 0.0;
    for (line, panels) in figures.chunks(columns).enumerate() {
        for (column, figure) in panels.iter().enumerate() {
            panel(&mut svg, figure, column as f64 * WIDTH, top);
        }
        top += heights[line];
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, figure: &Figure, left: f64, top: f64) {
    let scale = Scale::over(&figure.of);
    let (plot, end) = (left + LABELS, top + height(figure) - FOOT);
    let how = if scale.is_logarithmic { ", logarithmic" } else { "" };
    let title = format!("{} {} ({}{how})", figure.row, figure.what, figure.unit);
    text(svg, "title", left + 8.0, top + 18.0, "start", &title);
    for tick in scale.ticks() {
        let x = plot + scale.at(tick);
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{end:.1}\"/>",
            top + HEAD
        )
        .unwrap();
        text(svg, "tick", x, end + 13.0, "middle", &number(tick));
    }
    for (index, samples) in figure.of.iter().enumerate() {
        let y = top + HEAD + (index as f64 + 0.5) * LINE;
        let class = if samples.subject == OURS { "ours" } else { "peer" };
        text(svg, class, plot - 8.0, y + 4.0, "end", &samples.subject);
        for value in samples.rounds.values() {
            let x = plot + scale.at(*value);
            writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>").unwrap();
        }
        let Some(summary) = samples.summary() else { continue };
        let x = plot + scale.at(summary.median);
        let (above, below) = (y - 7.0, y + 7.0);
        writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{above:.1}\" x2=\"{x:.1}\" y2=\"{below:.1}\"/>"
        )
        .unwrap();
        text(svg, class, plot + SPAN + 8.0, y + 4.0, "start", &number(summary.median));
    }
}

/// From values to places between 0 and [`SPAN`].
struct Scale {
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// Linear from zero; logarithmic where the values span more than a factor of twenty.
    fn over(of: &[Samples]) -> Self {
        let values = || of.iter().flat_map(|samples| samples.rounds.values().copied());
        let most = values().fold(0.0, f64::max);
        let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        if least.is_finite() && most / least > 20.0 {
            let power = |value: f64| 10_f64.powf(value);
            let (from, to) = (power(least.log10().floor()), power(most.log10().ceil()));
            return Self { from, to, is_logarithmic: true };
        }
        Self { from: 0.0, to: if most > 0.0 { most * 1.05 } else { 1.0 }, is_logarithmic: false }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0) * SPAN
    }

    /// Where the axis says a number.
    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let powers = (self.to / self.from).log10().round() as i32;
            return (0..=powers).map(|power| self.from * 10_f64.powi(power)).collect();
        }
        let rough = self.to / 4.0;
        let unit = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * unit).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = (self.to / step).floor() as u32;
        (0..=count).map(|times| f64::from(times) * step).collect()
    }
}

fn height(figure: &Figure) -> f64 {
    HEAD + figure.of.len() as f64 * LINE + FOOT
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
    writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(text)
    )
    .unwrap();
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 520.0;
const LABELS: f64 = 116.0;
const SPAN: f64 = 330.0;
const HEAD: f64 = 30.0;
const FOOT: f64 = 28.0;
const LINE: f64 = 20.0;
/// On a ground of its own, so that it can be read whatever the page around it looks like.
const STYLE: &str = "<style>
svg{background:#fff}
text{font:12px system-ui,sans-serif;fill:#333}
text.title{font-weight:600;fill:#111}
text.tick{font-size:10px;fill:#666}
text.ours{font-weight:600;fill:#0b62c4}
line.grid{stroke:#ddd}
line.ours{stroke:#0b62c4;stroke-width:3}
line.peer{stroke:#666;stroke-width:3}
circle.ours{fill:#0b62c4;fill-opacity:.45}
circle.peer{fill:#666;fill-opacity:.45}
@media (prefers-color-scheme:dark){
svg{background:#16191d}
text{fill:#ccc}
text.title{fill:#eee}
text.tick{fill:#999}
text.ours{fill:#6cb2ff}
line.grid{stroke:#333}
line.ours{stroke:#6cb2ff}
line.peer{stroke:#aaa}
circle.ours{fill:#6cb2ff}
circle.peer{fill:#aaa}
}
</style>
";

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples { subject: "ours".into(), rounds: values.iter().copied().enumerate().collect() }
    }

    #[test]
    fn a_wide_range_is_drawn_by_powers_of_ten() {
        let wide = Scale::over(&[samples(&[2.0, 900.0])]);
        assert_eq!(wide.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert!((wide.at(1.0), wide.at(1000.0)) == (0.0, SPAN));
        let near = Scale::over(&[samples(&[70.0, 100.0])]);
        assert_eq!(near.ticks(), [0.0, 50.0, 100.0]);
        assert!(near.at(100.0) > near.at(70.0) && near.at(0.0) == 0.0);
    }

    #[test]
    fn every_round_is_a_dot_and_every_subject_a_bar() {
        let of = vec![samples(&[1.0, 2.0, 3.0]), Samples { subject: "a<b".into(), ..samples(&[2.0, 2.5]) }];
        let figure = Figure { row: "P3".into(), what: "echo".into(), unit: "us".into(), of };
        let svg = draw("P3", &[&figure]);
        assert_eq!((svg.matches("<circle").count(), svg.matches("<line class=\"peer\"").count()), (5, 1));
        assert!(svg.contains("a&lt;b"), "{svg}");
    }
}
