//! Figures: every sample of every subject, by round, and what is made of them.

mod chart;
mod machine;
mod page;
mod summary;
mod table;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// Who is measured when it is us.
pub(crate) const OURS: &str = "ours";

/// All that a run has seen; what its file of samples holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Where and how it was measured.
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) figures: Vec<Figure>,
    /// Who was not measured, and why.
    pub(crate) skipped: BTreeMap<String, String>,
    /// What went wrong on the way, or has to be known to read the figures.
    pub(crate) notes: BTreeSet<String>,
    #[serde(skip)]
    round: usize,
}

/// One thing measured, of everybody of whom it was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The row of the table of goals: `P1`.
    pub(crate) row: String,
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) of: Vec<Samples>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Samples {
    pub(crate) subject: String,
    /// By round, so that a ratio can be taken within each.
    pub(crate) rounds: BTreeMap<usize, f64>,
}

impl Report {
    /// A report of this run on this machine.
    pub(crate) fn begin(arguments: &str) -> Self {
        Self { facts: machine::facts(arguments), ..Self::default() }
    }

    /// What is put from now on belongs to this round.
    pub(crate) fn round(&mut self, round: usize) {
        self.round = round;
    }

    /// Keeps a sample; a second one in a round becomes one of the next free round.
    pub(crate) fn put(&mut self, row: &str, what: &str, unit: &str, subject: &str, value: f64) {
        let known = self.figures.iter().position(|figure| figure.row == row && figure.what == what);
        let at = known.unwrap_or_else(|| {
            let (row, what, unit) = (row.to_owned(), what.to_owned(), unit.to_owned());
            self.figures.push(Figure { row, what, unit, of: vec![] });
            self.figures.len() - 1
        });
        let of = &mut self.figures[at].of;
        let known = of.iter().position(|samples| samples.subject == subject);
        let at = known.unwrap_or_else(|| {
            of.push(Samples { subject: subject.to_owned(), rounds: BTreeMap::new() });
            of.len() - 1
        });
        let rounds = &mut of[at].rounds;
        let round = (self.round..).find(|round| !rounds.contains_key(round)).expect("rounds do not run out");
        rounds.insert(round, value);
    }

    /// Says why somebody is not in the tables.
    pub(crate) fn skip(&mut self, subject: &str, reason: impl Into<String>) {
        let reason = reason.into();
        println!("skipped: {subject}: {reason}");
        self.skipped.insert(subject.to_owned(), reason);
    }

    /// Says something that the reader of the figures has to know.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("  note: {text}");
        self.notes.insert(text);
    }

    pub(crate) fn samples(&self, row: &str, what: &str, subject: &str) -> Option<&Samples> {
        let figure = self.figures.iter().find(|figure| figure.row == row && figure.what == what)?;
        figure.of.iter().find(|samples| samples.subject == subject)
    }

    /// The tables, on the terminal.
    pub(crate) fn print(&self) {
        table::print(self);
    }

    /// A page and a plot for each row of goals.
    pub(crate) fn publish(&self, directory: &Path) {
        page::write(self, directory);
        println!("page and plots: {}", directory.display());
    }

    /// Every sample, as JSON.
    pub(crate) fn write(&self, file: &Path) {
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(file, serde_json::to_string_pretty(self).unwrap()).unwrap();
        println!("every sample: {}", file.display());
    }

    /// What an earlier run wrote.
    pub(crate) fn read(file: &Path) -> Self {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: no samples: {error}", file.display()))
    }

    /// Takes in another run: its figures replace those of the same name.
    pub(crate) fn merge(&mut self, other: Self) {
        let replaced = |figure: &Figure| {
            other.figures.iter().any(|new| new.row == figure.row && new.what == figure.what)
        };
        self.figures.retain(|figure| !replaced(figure));
        self.figures.extend(other.figures);
        for (key, value) in other.facts {
            let known = self.facts.entry(key).or_default();
            if known.is_empty() {
                *known = value;
            } else if !known.split("; ").any(|part| part == value) {
                *known = format!("{known}; {value}");
            }
        }
        self.skipped.extend(other.skipped);
        self.notes.extend(other.notes);
    }

    /// The rows that have figures, in the order of the table of goals.
    fn rows(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = self.figures.iter().map(|figure| figure.row.as_str()).collect();
        rows.sort_by_key(|row| row_order(row));
        rows.dedup();
        rows
    }

    fn figures_of<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a Figure> {
        self.figures.iter().filter(move |figure| figure.row == row)
    }
}

/// `P2` before `P10`.
fn row_order(row: &str) -> (char, u32) {
    let mut letters = row.chars();
    (letters.next().unwrap_or(' '), letters.as_str().parse().unwrap_or(u32::MAX))
}
