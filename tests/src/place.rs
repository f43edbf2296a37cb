//! A place where what the documentation prints can be typed: a directory and a network of their own, with the two
//! programs on the path, and variables that one command sets for the next.

use std::{path::Path, process::Command, time::Duration};

use crate::{Finished, Namespace, Printed, Process, cloud_program, eventually_within, run};

/// A directory and a network, gone with their value.
#[derive(Debug)]
pub struct Place {
    namespace: Namespace,
    directory: tempfile::TempDir,
}

impl Place {
    /// Makes one. `cloud.example.com` is this machine there.
    ///
    /// # Panics
    /// Without the right to make a network.
    #[expect(clippy::new_without_default, reason = "it makes a network, which nobody expects of a default")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(HOSTS), "127.0.0.1 localhost cloud.example.com\n").unwrap();
        std::fs::write(directory.path().join(VARIABLES), "").unwrap();
        Self { namespace: Namespace::new(), directory }
    }

    /// The directory in which commands are typed.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The network in which they run.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A shell inside that runs these lines.
    pub fn shell(&self, script: &str) -> Command {
        let programs = cloud_program().parent().unwrap().display().to_string();
        let mut command = self.namespace.command("unshare");
        command.args(["--mount", "bash", "-c"]).arg(format!(
            "set -e -o pipefail; mount --bind '{here}/{HOSTS}' /etc/hosts; cd '{here}'; PATH='{programs}':$PATH; \
             unset TCPMUX_DATA http_proxy https_proxy HTTPS_PROXY; . ./{VARIABLES}\n{script}",
            here = self.directory().display(),
        ));
        command
    }

    /// Runs lines to their end, with this on their standard input.
    pub async fn run(&self, script: &str, input: &[u8]) -> Finished {
        let shell = self.shell(script);
        // The environment of a `Command` is told apart from its words: only PATH was set, and the shell sets it anew.
        run(shell.get_program(), shell.get_args(), input).await
    }

    /// Sets a variable for every command that follows: `line` is its assignment, as in `ID=$(cat id)`.
    ///
    /// # Panics
    /// If that fails, or leaves it empty.
    pub async fn set(&self, line: &str) {
        let (name, _) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {line}"));
        let script = format!("{line}\ntest -n \"${name}\"\ndeclare -p {name} >> {VARIABLES}");
        let finished = self.run(&script, b"").await;
        assert_eq!(finished.code, 0, "{line}: {}{}", finished.stdout, finished.stderr);
    }

    /// Starts `tcpmux demo` here and sets the variables that it suggests; the demo, and all that it has said.
    ///
    /// # Panics
    /// If it does not come to stand.
    pub async fn demo(&self) -> (Process, String) {
        let demo = Process::start("demo", self.shell("exec tcpmux demo"));
        eventually_within(Duration::from_secs(30), "the demo has said all", || async {
            if demo.log().contains("Stop with Ctrl-C") { Ok(()) } else { Err(demo.log()) }
        })
        .await;
        let said = demo.log();
        let is_assignment = |line: &&str| {
            let (name, _) = line.split_once('=').unwrap_or_default();
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        };
        for line in said.lines().filter(is_assignment) {
            self.set(line).await;
        }
        (demo, said)
    }

    /// Types a command as it is printed, again until it does what its page says: what one command began may take a
    /// moment to arrive.
    ///
    /// # Panics
    /// If it never does, with what it said last.
    pub async fn follow(&self, printed: &Printed) {
        // Refusals become exit codes. A stream that the command itself cuts has ended as it should.
        let command = printed.command.replace("curl ", "curl --fail-with-body -sS ");
        let script = match printed.variable() {
            Some(name) => format!("{command}\ntest -n \"${name}\"\ndeclare -p {name} >> {VARIABLES}"),
            None => command.clone(),
        };
        let what = format!("{}: `{}`", printed.place, printed.command);
        eventually_within(Duration::from_secs(20), &what, || async {
            let finished = self.run(&script, b"").await;
            let is_cut = command.contains("--max-time") && finished.code == 28;
            let ended_well =
                if printed.is_refused() { finished.code != 0 } else { finished.code == 0 || is_cut };
            // What curl says of a refusal is beside the answer.
            let said = if finished.stdout.is_empty() { &finished.stderr } else { &finished.stdout };
            if ended_well && printed.agrees(said) { Ok(()) } else { Err((finished.code, said.clone())) }
        })
        .await;
    }
}

const HOSTS: &str = "hosts";
const VARIABLES: &str = "variables";
