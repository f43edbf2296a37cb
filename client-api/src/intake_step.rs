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
    /// What the steps are called, in their order.
    pub const NAMES: [&str; 2] = ["after-arrived", "after-kept"];

    /// The step of this name.
    pub fn named(name: &str) -> Option<Self> {
        let index = Self::NAMES.iter().position(|known| *known == name)?;
        Some([Self::Arrived, Self::Kept][index])
    }
}
