//! Figures by name, every sample kept.

use std::{collections::HashMap, path::Path};

#[derive(Debug, Default)]
pub(crate) struct Report {
    order: Vec<String>,
    samples: HashMap<String, Vec<f64>>,
}

impl Report {
    pub(crate) fn put(&mut self, name: &str, value: f64) {
        if !self.samples.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.samples.entry(name.to_owned()).or_default().push(value);
    }

    pub(crate) fn print(&self) {
        println!("{:<52} {:>10} {:>10} {:>10}", "figure", "median", "least", "most");
        for name in &self.order {
            let mut sorted = self.samples[name].clone();
            sorted.sort_by(f64::total_cmp);
            let (median, least, most) = (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1]);
            println!("{name:<52} {median:>10.2} {least:>10.2} {most:>10.2}");
        }
    }

    pub(crate) fn write(&self, file: &Path) {
        std::fs::write(file, serde_json::to_string_pretty(&self.samples).unwrap()).unwrap();
        println!("every sample: {}", file.display());
    }
}
