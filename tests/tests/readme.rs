//! Every command of the README, run as it is printed; and every line that the demo suggests. The pages whose commands
//! speak to a running demo follow the same way.

use std::{collections::BTreeSet, time::Duration};

use tests::{Nginx, Place, Printed, Process, eventually_within, printed};

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
    let commands = printed("README.md");
    let kinds: BTreeSet<&str> =
        commands.iter().filter_map(|printed| printed.command.split_whitespace().next()).collect();
    assert!(kinds.len() >= 6, "the README lost its commands: {kinds:?}");

    // Of its own: the README's ports are the usual ones, and its cloud is called cloud.example.com.
    let place = Place::new();
    let nginx_port = 8080;
    let _nginx = Nginx::start_inside(place.namespace(), nginx_port).await;
    let mut stays = vec![];
    for printed in &commands {
        let line = printed.command.as_str();
        match step(line) {
            Step::Elsewhere => {}
            Step::Stays => {
                let process = Process::start("readme", place.shell(&format!("exec {line}")));
                until_it_stands(&place, line, &process).await;
                stays.push(process);
            }
            Step::Prints(_) if printed.variable().is_some() => place.set(line).await,
            Step::Prints(expected) => {
                let input =
                    if line.contains("enroll -") { enrolment_string(&place).await } else { String::new() };
                let finished = place.run(line, input.as_bytes()).await;
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

    let (_demo, said) = place.demo().await;
    let suggested: Vec<&str> = said.lines().filter(|line| line.starts_with("curl ")).collect();
    assert!(suggested.len() >= 6, "{said}");
    for line in suggested {
        let suggested = Printed { place: "demo".into(), command: line.into(), answer: "…".into() };
        place.follow(&suggested).await;
    }
    // What the README says of people, against the people of the demo.
    let commands = printed("README.md");
    let of_people: Vec<_> = commands.iter().filter(|printed| printed.command.contains("$CLOUD")).collect();
    assert!(of_people.len() >= 8, "the README lost its calls for people: {of_people:?}");
    for printed in of_people {
        place.follow(printed).await;
    }
}

/// Runs every command of a page beside a demo.
async fn follow(page: &str) {
    let place = Place::new();
    let (_demo, _) = place.demo().await;
    for printed in printed(page) {
        place.follow(&printed).await;
    }
}

#[tokio::test]
async fn what_the_page_on_claiming_prints_works() {
    follow("docs/claiming.md").await;
}

#[tokio::test]
async fn what_the_page_on_events_prints_works() {
    follow("docs/events.md").await;
}

#[tokio::test]
async fn what_the_page_on_notifications_prints_works() {
    follow("docs/notifications.md").await;
}

async fn enrolment_string(place: &Place) -> String {
    let finished = place.run("tcpmux passcode new --data ./tcpmux-data --device cam-01 -o json", b"").await;
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let made: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    format!("{}\n", made["enroll"].as_str().unwrap())
}

async fn until_it_stands(place: &Place, line: &str, process: &Process) {
    let what = format!("`{line}` stands");
    eventually_within(Duration::from_secs(30), &what, || async {
        let stands = if line.starts_with("tcpmux up") {
            place.directory().join("tcpmux-data/listening.json").exists()
        } else {
            let listed = place.run("tcpmux device ls --data ./tcpmux-data", b"").await;
            listed.stdout.lines().any(|line| line.starts_with("cam-01") && line.contains("yes"))
        };
        if stands { Ok(()) } else { Err(process.log()) }
    })
    .await;
}
