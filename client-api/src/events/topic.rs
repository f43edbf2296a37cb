//! Topics `<tenant>.<subject>`, and patterns of subjects. Pure.

use model::TenantName;

/// A pattern of subjects: exactly this one, or everything beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    segments: Vec<String>,
    /// It ended with `*`: one or more segments follow.
    is_open: bool,
}

/// Why a topic is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicError {
    /// It is not a topic at all.
    Malformed,
    /// It is another tenant's.
    Forbidden,
}

impl Pattern {
    /// Every subject.
    pub(crate) fn all() -> Self {
        Self { segments: vec![], is_open: true }
    }

    /// Reads `device.connected`, `device.*` or `*`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut segments: Vec<&str> = text.split('.').collect();
        let is_open = segments.pop_if(|last| *last == "*").is_some();
        let all_named = segments.iter().all(|segment| !segment.is_empty() && segment.bytes().all(is_name));
        (all_named && (is_open || !segments.is_empty()))
            .then(|| Self { segments: segments.into_iter().map(str::to_owned).collect(), is_open })
    }

    /// Reads a topic that someone of this tenant asks for.
    pub(crate) fn of_topic(topic: &str, tenant: &TenantName) -> Result<Self, TopicError> {
        let (named, subject) = topic.split_once('.').ok_or(TopicError::Malformed)?;
        let pattern = Self::parse(subject).ok_or(TopicError::Malformed)?;
        if named.is_empty() || !named.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(TopicError::Malformed);
        }
        // The whole name up to the first dot: a tenant whose name begins alike is another.
        if named.eq_ignore_ascii_case(tenant.as_str()) { Ok(pattern) } else { Err(TopicError::Forbidden) }
    }

    /// Whether a subject is meant.
    pub(crate) fn matches(&self, subject: &str) -> bool {
        let mut rest = subject.split('.');
        self.segments.iter().all(|segment| rest.next() == Some(segment))
            && rest.next().is_some() == self.is_open
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
}

const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_whole_segments() {
        for (pattern, subject, matches) in [
            ("telemetry", "telemetry", true),
            ("telemetry", "telemetry.raw", false),
            ("telemetry", "telemetryx", false),
            ("device.connected", "device.connected", true),
            ("device.connected", "device.disconnected", false),
            ("device.*", "device.connected", true),
            ("device.*", "device.a.b", true),
            ("device.*", "device", false),
            ("device.*", "devices.connected", false),
            ("device.con", "device.connected", false),
            ("device", "device.connected", false),
            ("*", "telemetry", true),
            ("*", "device.connected", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(subject), matches, "{pattern} {subject}");
        }
        assert!(Pattern::all().matches("telemetry"));
    }

    #[test]
    fn other_texts_are_no_patterns() {
        for bad in [
            "",
            ".",
            "device.",
            ".device",
            "device..x",
            "*.connected",
            "device.*.x",
            "Device",
            "a b",
            "a/b",
            "**",
        ] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
        assert_eq!(Pattern::parse(&"a".repeat(129)), None);
    }

    #[test]
    fn a_topic_is_of_ones_own_tenant_to_the_dot() {
        let acme: TenantName = "acme".parse().unwrap();
        for (topic, outcome) in [
            ("acme.telemetry", Ok(Pattern::parse("telemetry").unwrap())),
            ("ACME.device.*", Ok(Pattern::parse("device.*").unwrap())),
            ("acme-2.telemetry", Err(TopicError::Forbidden)),
            ("acm.telemetry", Err(TopicError::Forbidden)),
            ("default.*", Err(TopicError::Forbidden)),
            ("acme", Err(TopicError::Malformed)),
            ("acme.", Err(TopicError::Malformed)),
            (".telemetry", Err(TopicError::Malformed)),
            ("*.telemetry", Err(TopicError::Malformed)),
            ("acmetelemetry", Err(TopicError::Malformed)),
        ] {
            assert_eq!(Pattern::of_topic(topic, &acme), outcome, "{topic}");
        }
    }
}
