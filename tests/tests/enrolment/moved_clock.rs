//! Processes that live at another time: Debian's libfaketime moves the wall clock and leaves the other clocks alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tests::{Finished, Process, client_program, run};

/// A place in time, as in `+70d` or `@1970-01-02 00:00:00`.
pub(super) struct MovedClock(Vec<(&'static str, String)>);

impl MovedClock {
    pub(super) fn at(when: &str) -> Self {
        let library = library().display().to_string();
        let alone =
            ["FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC"].map(|name| (name, "1".to_owned()));
        let mut environment =
            vec![("LD_PRELOAD", library), ("FAKETIME", when.to_owned()), ("TZ", "UTC".to_owned())];
        environment.extend(alone);
        Self(environment)
    }

    /// The variables that move a process there.
    pub(super) fn environment(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str())).collect()
    }

    /// Runs a command there.
    pub(super) async fn run(&self, program: &Path, words: &[&str], input: &str) -> Finished {
        let settings = self.0.iter().map(|(key, value)| format!("{key}={value}"));
        let program = program.display().to_string();
        let rest = std::iter::once(program.as_str()).chain(words.iter().copied()).map(str::to_owned);
        run("env", settings.chain(rest), input.as_bytes()).await
    }

    /// Starts a daemon there on this state.
    pub(super) fn daemon(&self, state: &Path) -> Process {
        let mut command = Command::new(client_program());
        command.args(["run", "--no-local-api", "--state"]).arg(state).envs(self.environment());
        Process::start("tcpmux-client", command)
    }
}

fn library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let mut libraries = places.map(|place| place.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.exists()).expect("faketime is missing; ./scripts/test installs it")
}
