//! The page of figures: what was measured where, every verdict, every median, and the plots.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use super::{Report, chart, target};

pub(super) fn write(report: &Report, directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("README.md"), text(report)).unwrap();
    for row in report.rows() {
        let figures: Vec<_> = report.figures_of(row).collect();
        std::fs::write(directory.join(plot(row)), chart::draw(row, &figures)).unwrap();
    }
}

fn plot(row: &str) -> String {
    format!("{}.svg", row.to_lowercase())
}

fn text(report: &Report) -> String {
    let mut page = String::from(
        "# Figures\n\nWritten by the bench itself (`./scripts/prove bench --plots docs/bench`); do not edit. Everything \
         runs on one machine over loopback. Peers are measured in the same run, alternating measure by measure and \
         round by round; a figure is the median of its rounds with the least and the most, a ratio is taken within \
         each round.\n\n",
    );
    for (name, value) in &report.facts {
        writeln!(page, "- {name}: {value}").unwrap();
    }
    page.push_str(
        "\n## Goals\n\n| row | figure | to reach | ours | beside it | verdict |\n|---|---|---|---|---|---|\n",
    );
    for verdict in target::verdicts(report) {
        let target::Verdict { row, what, wanted, ours, other, result } = verdict;
        writeln!(page, "| {row} | {what} | {wanted} | {ours} | {other} | {result} |").unwrap();
    }
    if !report.skipped.is_empty() {
        page.push_str("\n## Not measured\n\n");
        for (subject, reason) in &report.skipped {
            writeln!(page, "- {subject}: {reason}").unwrap();
        }
    }
    if !report.notes.is_empty() {
        page.push_str("\n## Notes\n\n");
        for note in &report.notes {
            writeln!(page, "- {note}").unwrap();
        }
    }
    for row in report.rows() {
        write!(page, "\n## {row}\n\n").unwrap();
        table(&mut page, report, row);
        writeln!(page, "\n![{row}]({})", plot(row)).unwrap();
    }
    page
}

/// A line for each figure, a column for each subject; the other way round where there is one figure.
fn table(page: &mut String, report: &Report, row: &str) {
    let mut seen = BTreeSet::new();
    let subjects: Vec<&str> = report
        .figures_of(row)
        .flat_map(|figure| figure.of.iter().map(|samples| samples.subject.as_str()))
        .filter(|subject| seen.insert(*subject))
        .collect();
    writeln!(page, "| figure | {} |", subjects.join(" | ")).unwrap();
    writeln!(page, "|---|{}", "---|".repeat(subjects.len())).unwrap();
    for figure in report.figures_of(row) {
        let cells = subjects.iter().map(|subject| {
            let samples = figure.of.iter().find(|samples| samples.subject == *subject);
            samples.and_then(|samples| samples.summary()).map_or("–".into(), |summary| summary.text())
        });
        let cells: Vec<String> = cells.collect();
        writeln!(page, "| {}, {} | {} |", figure.what, figure.unit, cells.join(" | ")).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_figure_and_a_plot_for_each_row() {
        let mut report = Report::default();
        report.put("P10", "enrolments", "/s", "ours", 1200.0);
        report.put("P2", "16 at once, requests", "/s", "ours", 3000.0);
        report.put("P2", "16 at once, requests", "/s", "bore", 2000.0);
        report.skip("wstunnel", "not to be had");
        let directory = tempfile::tempdir().unwrap();
        write(&report, directory.path());
        let page = std::fs::read_to_string(directory.path().join("README.md")).unwrap();
        assert!(page.contains("| 16 at once, requests, /s | 3000 | 2000 |"), "{page}");
        assert!(page.contains("- wstunnel: not to be had"), "{page}");
        assert!(page.find("## P2").unwrap() < page.find("## P10").unwrap());
        for row in ["p2", "p10"] {
            let plot = std::fs::read_to_string(directory.path().join(format!("{row}.svg"))).unwrap();
            assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"), "{plot}");
        }
    }
}
