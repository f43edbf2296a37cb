//! Where figures come from: the machine, the source, the words of the command.

use std::{collections::BTreeMap, process::Command};

pub(super) fn facts(arguments: &str) -> BTreeMap<String, String> {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?.to_owned();
            Some(line.split(':').nth(1)?.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown".into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let profile = if cfg!(debug_assertions) { "debug: no figures" } else { "optimised" };
    // The version alone: what a builder of kernels adds to it says nothing here.
    let release = said("uname", &["-r"]);
    let system = format!("{} {}", said("uname", &["-s"]), release.split('-').next().unwrap_or_default());
    BTreeMap::from([
        ("command".into(), format!("bench {arguments}").trim_end().to_owned()),
        ("build".into(), profile.into()),
        ("load average at the start".into(), load),
        ("machine".into(), format!("{processor}, {cores} cores, {system}")),
        ("source".into(), said("git", &["describe", "--always", "--dirty", "--abbrev=12"])),
    ])
}

fn said(program: &str, words: &[&str]) -> String {
    let done = Command::new(program).args(words).current_dir(tests::workspace()).output();
    done.map_or_else(
        |error| format!("({program}: {error})"),
        |done| String::from_utf8_lossy(&done.stdout).trim().to_owned(),
    )
}
