//! Every command of the README, run as it is printed; and every line that the demo suggests.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use tests::{Finished, Namespace, Nginx, Process, cloud_program, eventually_within, run, workspace};

/// What the README's commands do, in its order. A command that is not here is one that nobody runs.
enum Step {
    /// Run elsewhere: by [`the_demo_checks_itself_and_its_suggestions_work`], or by whoever runs this.
    Elsewhere,
    /// Runs until the end of the story.
    Stays,
    /// Ends, with 0; has to print this.
    Prints(&'static str),
}

fn step(line: &str) -> Step {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["cargo", "run", "--release", "--", "demo"] | ["./scripts/test"] => Step::Elsewhere,
        ["tcpmux", "up", ..] | ["tcpmux-client", "run", ..] => Step::Stays,
        ["curl", ..] if line.contains("/admin/api/otp") => Step::Prints(""),
        ["curl", ..] if line.contains("/d/cam-01/web/") => Step::Prints("nginx behind the tunnel"),
        ["tcpmux-client", "enroll", ..] => Step::Prints("cam-01"),
        ["TOKEN=$(tcpmux", ..] => Step::Prints(""),
        ["curl", ..] if line.contains("$CLOUD") => Step::Elsewhere,
        ["tcpmux", "tenant", "new", ..] => Step::Prints("acme stands"),
        ["tcpmux", "tenant", "rm", ..] => Step::Prints("acme is removed"),
        ["tcpmux", "audit", "ls", ..] => Step::Prints("tenant.remove"),
        ["tcpmux", "audit", "verify", ..] => Step::Prints("whole"),
        // A real sshd answers in the module `tcp`; here nothing stands behind the service's name.
        ["ssh", ..] => Step::Elsewhere,
        _ => panic!("the README has a command that no test runs: {line}"),
    }
}

#[tokio::test]
async fn the_commands_of_the_readme_work_as_printed() {
    let text = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let kinds: BTreeSet<&str> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(kinds.len() >= 6, "the README lost its commands: {kinds:?}");

    // Of its own: the README's ports are the usual ones, and its cloud is called cloud.example.com.
    let place = Place::new();
    let nginx_port = 8080;
    let _nginx = Nginx::start_inside(&place.namespace, nginx_port).await;
    let mut stays = vec![];
    let mut token_line = String::new();
    for line in lines {
        match step(line) {
            Step::Elsewhere => {}
            Step::Stays => {
                let process = Process::start("readme", place.shell(line));
                place.until_it_stands(line, &process).await;
                stays.push(process);
            }
            Step::Prints(expected) => {
                let input =
                    if line.contains("enroll -") { place.enrolment_string().await } else { String::new() };
                // A variable that one line sets is used by the next.
                let script = if line.starts_with("TOKEN=") {
                    token_line = line.to_owned();
                    format!("{line}; test -n \"$TOKEN\"")
                } else {
                    format!("{token_line}\n{line}")
                };
                let finished = place.run(&script, input.as_bytes()).await;
                let said = format!("{}{}", finished.stdout, finished.stderr);
                assert_eq!(finished.code, 0, "{line}: {said}");
                assert!(said.contains(expected), "{line}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn the_demo_checks_itself_and_its_suggestions_work() {
    let place = Place::new();
    let once = place.run("tcpmux demo --once", b"").await;
    assert_eq!(once.code, 0, "{}{}", once.stdout, once.stderr);
    assert!(once.stdout.lines().any(|line| line.contains("self-check")), "{}", once.stdout);

    let demo = Process::start("demo", place.shell("exec tcpmux demo"));
    eventually_within(Duration::from_secs(30), "the demo has said all", || async {
        if demo.log().contains("Stop with Ctrl-C") { Ok(()) } else { Err(demo.log()) }
    })
    .await;
    let said = demo.log();
    let suggested: Vec<&str> = said
        .lines()
        .filter(|line| {
            ["curl ", "CA=", "CLOUD=", "ID=", "BOB=", "TOKEN="].iter().any(|start| line.starts_with(start))
        })
        .collect();
    assert!(suggested.len() >= 8, "{said}");
    let mut set = String::new();
    for line in suggested {
        if line.starts_with("curl ") {
            // `--fail` turns a refusal into an exit code; the event stream is cut by its own `--max-time`.
            let line = line.replacen("curl ", "curl --fail-with-body -sS ", 1);
            let finished = place.run(&format!("{set}{line}"), b"").await;
            let is_stream = line.contains("--max-time");
            let ended_well = finished.code == 0 || is_stream && finished.code == 28;
            assert!(ended_well, "{line}: {}{}", finished.stdout, finished.stderr);
            assert!(!finished.stdout.is_empty(), "{line}: no answer");
        } else {
            set += &format!("{line}\n");
        }
    }
    // What the README says of people, against the people of the demo.
    let text = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| line.contains("$CLOUD"))
        .collect();
    assert!(lines.len() >= 8, "the README lost its calls for people: {lines:?}");
    for line in lines {
        let line = line.replacen("curl ", "curl --fail-with-body -sS ", 1);
        // A new code comes to the device a moment after it was let go.
        eventually_within(Duration::from_secs(15), &line, || async {
            let finished = place.run(&format!("{set}{line}"), b"").await;
            let is_stream = line.contains("--max-time");
            let ended_well = finished.code == 0 || is_stream && finished.code == 28;
            if ended_well { Ok(()) } else { Err(format!("{}{}", finished.stdout, finished.stderr)) }
        })
        .await;
    }
}

/// A directory and a network of their own, where the two programs are on the path.
struct Place {
    namespace: Namespace,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("hosts"), "127.0.0.1 localhost cloud.example.com\n").unwrap();
        Self { namespace: Namespace::new(), directory }
    }

    /// A shell inside that runs these lines; `cloud.example.com` is this machine there.
    fn shell(&self, script: &str) -> Command {
        let programs = cloud_program().parent().unwrap().display().to_string();
        let mut command = self.namespace.command("unshare");
        command.args(["--mount", "bash", "-c"]).arg(format!(
            "set -e; mount --bind '{hosts}' /etc/hosts; cd '{here}'; PATH='{programs}':$PATH; \
             unset TCPMUX_DATA http_proxy https_proxy HTTPS_PROXY; {script}",
            hosts = self.directory.path().join("hosts").display(),
            here = self.directory.path().display(),
        ));
        command
    }

    async fn run(&self, script: &str, input: &[u8]) -> Finished {
        let shell = self.shell(script);
        // The environment of a `Command` is told apart from its words: only PATH was set, and the shell sets it anew.
        run(shell.get_program(), shell.get_args(), input).await
    }

    async fn enrolment_string(&self) -> String {
        let finished =
            self.run("tcpmux passcode new --data ./tcpmux-data --device cam-01 -o json", b"").await;
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let made: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
        format!("{}\n", made["enroll"].as_str().unwrap())
    }

    async fn until_it_stands(&self, line: &str, process: &Process) {
        let what = format!("`{line}` stands");
        eventually_within(Duration::from_secs(30), &what, || async {
            let stands = if line.starts_with("tcpmux up") {
                Path::exists(&self.directory.path().join("tcpmux-data/listening.json"))
            } else {
                let listed = self.run("tcpmux device ls --data ./tcpmux-data", b"").await;
                listed.stdout.lines().any(|line| line.starts_with("cam-01") && line.contains("yes"))
            };
            if stands { Ok(()) } else { Err(process.log()) }
        })
        .await;
    }
}
