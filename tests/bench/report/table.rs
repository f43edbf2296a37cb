//! The figures on a terminal.

use super::{Report, target};

pub(super) fn print(report: &Report) {
    for row in report.rows() {
        println!();
        for figure in report.figures_of(row) {
            println!("{row} {}, {}", figure.what, figure.unit);
            for samples in &figure.of {
                if let Some(summary) = samples.summary() {
                    println!("    {:<16} {}", samples.subject, summary.text());
                }
            }
        }
    }
    println!();
    for verdict in target::verdicts(report) {
        println!("{verdict}");
    }
    for (subject, reason) in &report.skipped {
        println!("skipped: {subject}: {reason}");
    }
    for note in &report.notes {
        println!("note: {note}");
    }
}
