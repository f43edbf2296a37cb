//! Words that must not be in what is handed over.

use std::path::Path;

use tests::{run_ok, workspace};

#[tokio::test]
async fn nothing_unfinished_and_no_path_of_a_builders_machine_is_committed() {
    let root = workspace().display().to_string();
    let files = run_ok("git", ["-C", &root, "ls-files"], b"").await;
    // Put together here, so that this file does not contain them.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["to", "do!("],
        ["unimple", "mented!("],
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["PRIVATE KEY-----\nM", "I"],
    ]
    .map(|halves| halves.concat());
    let mut found = vec![];
    for name in files.lines().filter(|name| *name != "Cargo.lock") {
        let Ok(text) = std::fs::read_to_string(Path::new(&root).join(name)) else { continue };
        for word in words.iter().filter(|word| text.contains(word.as_str())) {
            found.push(format!("{name}: {word}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(files.lines().any(|name| name == "README.md"), "the files are listed");
}
