//! What people call their devices.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A name for people: 1 to 64 characters of any script, without control characters, not blank at either end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(Arc<str>);

/// Why a text is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 64 characters, no control characters, and no blanks at its ends")]
pub struct DeviceNameError;

impl DeviceName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;
    fn from_str(text: &str) -> Result<Self, DeviceNameError> {
        let length = text.chars().count();
        // Marks that turn the direction of the text around let one name look like another.
        let is_strange = |c: char| {
            c.is_control()
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        if length == 0 || length > 64 || text.trim() != text || text.contains(is_strange) {
            return Err(DeviceNameError);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceNameError;
    fn try_from(text: String) -> Result<Self, DeviceNameError> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_visible_text_of_any_script() {
        for good in ["Front door", "Küche", "玄関", "a", &"ä".repeat(64)] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        for bad in ["", " ", " a", "a ", "a\nb", "a\0", "\u{202e}evil", &"a".repeat(65)] {
            assert_eq!(bad.parse::<DeviceName>(), Err(DeviceNameError), "{bad:?}");
        }
    }
}
