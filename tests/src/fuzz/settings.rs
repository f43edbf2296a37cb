//! The cloud's configuration.

use tcpmux::config::Layers;

/// Any text over the defaults is a checked configuration or a sentence.
pub(super) fn cloud(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let built = Layers::defaults().with_text(text, "fuzz.toml").and_then(|layers| layers.build());
    if let Err(sentence) = built {
        assert!(!sentence.is_empty());
    }
}
