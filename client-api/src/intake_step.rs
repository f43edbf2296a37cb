//! The steps of taking in a report, for tests that make the process die between them.

/// A step that has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntakeStep {
    /// The report was read and judged; nothing of it is kept.
    Arrived,
    /// What is good of it is durable; nobody was answered.
    Kept,
}

impl IntakeStep {
    /// The step of this name: `after-arrived` or `after-kept`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "after-arrived" => Some(Self::Arrived),
            "after-kept" => Some(Self::Kept),
            _ => None,
        }
    }
}
