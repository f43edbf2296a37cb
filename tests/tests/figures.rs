//! The bench still measures: one figure, once, for a second. Nobody judges it here.

use std::time::Duration;

use serde_json::Value;
use tests::{bench_program, run_within};

#[tokio::test]
async fn the_bench_measures_and_writes_samples_a_page_and_a_plot() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (samples, page) = (file("samples.json"), file("page"));
    let words = "tunnel --peers none --only P3 --rounds 1 --seconds 1 --json".split(' ').map(str::to_owned);
    let words = words.chain([samples.clone(), "--plots".into(), page.clone()]);
    let done = run_within(Duration::from_secs(50), bench_program(), words, b"").await;
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("P3   echo, p50, us: "), "{}", done.stdout);

    let samples: Value = serde_json::from_str(&std::fs::read_to_string(samples).unwrap()).unwrap();
    let figure = &samples["figures"][0];
    assert_eq!((&figure["row"], &figure["of"][0]["subject"]), (&"P3".into(), &"ours".into()), "{samples}");
    assert!(figure["of"][0]["rounds"]["0"].as_f64().is_some_and(|median| median > 0.0), "{samples}");
    let page = std::path::Path::new(&page);
    let text = std::fs::read_to_string(page.join("README.md")).unwrap();
    assert!(text.contains("![P3](p3.svg)"), "{text}");
    assert!(std::fs::read_to_string(page.join("p3.svg")).unwrap().contains("class=\"ours\""));

    let done = run_within(Duration::from_secs(10), bench_program(), ["--help"], b"").await;
    assert!(done.stdout.contains("--only"), "{}", done.stdout);
}
