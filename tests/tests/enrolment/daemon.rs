//! The daemon's own enrolment: what it sends to whom, what it shows, what it keeps.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use tempfile::TempDir;
use tests::{Cloud, EnrolledDevice, Finished, client_program, eventually, run};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    applicant::{certificates_of, fingerprint},
    interceptor::{Habit, Interceptor},
};

#[tokio::test]
async fn the_line_that_the_operator_is_shown_enrols_a_device_that_runs() {
    let cloud = Cloud::start().await;
    let shown = cloud.command("passcode new --device cam-01").await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let line = shown.stdout.lines().find(|line| line.starts_with("tcpmux://")).expect("a line to paste");
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    // As pasted: with its line end, and a space before.
    let enrolled = EnrolledDevice::try_enrol(&format!("  {line}\n"), &state).await;
    assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
    for word in ["cam-01", "fingerprint matches", "renews itself"] {
        assert!(enrolled.stdout.contains(word), "{word}: {}", enrolled.stdout);
    }
    let rows = certificates_of(&cloud, "cam-01").await;
    assert_eq!(rows.len(), 1);
    let certificate = std::fs::read_to_string(state.join("certificate.pem")).unwrap();
    assert_eq!(rows[0]["fingerprint"], fingerprint(&certificate));
    assert_eq!(certificate.matches("BEGIN CERTIFICATE").count(), 1, "the leaf alone");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("key.pem"))), (0o700, 0o600));
    let root = std::fs::read_to_string(state.join("ca.pem")).unwrap();
    assert_eq!(format!("sha256:{}", fingerprint(&root)), cloud.fingerprint());
    // The passcode is not kept.
    let otp = line.split("otp=").nth(1).unwrap().split('&').next().unwrap();
    let kept = run("grep", ["-r", "-l", otp, &state.display().to_string()], b"").await;
    assert_eq!((kept.code, &*kept.stdout), (1, ""));
    assert!(!format!("{}{}", enrolled.stdout, enrolled.stderr).contains(otp));
    // The second device: a file instead of a line.
    let device = EnrolledDevice::enrol_with(&cloud.enrolment_string("cam-02").await, "cam-02").await.run(&[]);
    cloud.until_online(device.id(), true, Duration::from_secs(20)).await;
    let (file, passcode) = (folder.path().join("otp"), cloud.passcode("cam-03").await);
    std::fs::write(&file, format!("{passcode}\n")).unwrap();
    let (server, ca, state) =
        (cloud.device().authority(), cloud.fingerprint(), folder.path().join("third").display().to_string());
    let words = ["enroll", "--server", &server, "--ca", &ca, "--device", "cam-03", "--state", &state];
    let file = file.display().to_string();
    let by_file = run(client_program(), words.into_iter().chain(["--passcode-file", &file]), b"").await;
    assert_eq!(by_file.code, 0, "{}", by_file.stderr);
    assert_eq!(certificates_of(&cloud, "cam-03").await.len(), 1);
}

#[tokio::test]
async fn each_refusal_has_its_own_words_and_exit_code() {
    let cloud = Cloud::start().await;
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    let (address, ca) = (cloud.device_address(), cloud.fingerprint());
    let wrong = model::Passcode::from_random([3; 20]).reveal();
    let bound = cloud.passcode("cam-02").await;
    for (line, code, words) in [
        (format!("tcpmux://{address}/?ca={ca}&otp={wrong}&device=cam-01"), 5, "passcode was refused"),
        (format!("tcpmux://{address}/?ca={ca}&otp={bound}&device=cam-01"), 1, "not for cam-01"),
        (format!("tcpmux://{address}/?ca={ca}&otp={}&device=cam-01", &wrong[1..]), 2, "passcode"),
        (format!("tcpmux://{address}/?otp={wrong}"), 2, "has no `ca=`"),
        ("https://example.com".to_owned(), 2, "begins with tcpmux://"),
        (String::new(), 2, "copy it whole"),
    ] {
        let said = EnrolledDevice::try_enrol(&line, &state).await;
        assert_eq!(said.code, code, "{line}: {}", said.stderr);
        assert!(said.stderr.contains(words), "{line}: {}", said.stderr);
        for secret in [&wrong, &bound] {
            assert!(!said.stderr.contains(secret.as_str()), "{}", said.stderr);
        }
    }
    // An argument can be read by everybody on the machine; it is not even accepted.
    let line = format!("tcpmux://{address}/?ca={ca}&otp={bound}&device=cam-02");
    let state = state.display().to_string();
    for words in [
        &["enroll", &*line, "--state", &state][..],
        &["enroll", "--passcode", &bound, "--state", &state],
        &["enroll", "-", "--otp", &bound, "--state", &state],
    ] {
        let said = run(client_program(), words, b"").await;
        assert_eq!(said.code, 2, "{}", said.stderr);
    }
    assert_eq!(certificates_of(&cloud, "cam-02").await.len(), 0, "it was not used");
    let right = EnrolledDevice::try_enrol(&line, state.as_ref()).await;
    assert_eq!(right.code, 0, "control: {}", right.stderr);
}

/// Whoever stands between hears the passcode only if the enrolment string itself names his authority.
#[tokio::test]
async fn the_passcode_is_sent_to_nobody_but_the_cloud_of_the_string() {
    let cloud = Cloud::start().await;
    let passcode = cloud.passcode("cam-01").await;
    let folder = TempDir::new().unwrap();
    let try_through = async |interceptor: &Interceptor, ca: &str, name: &str| -> Finished {
        let address = interceptor.address();
        let line = format!("tcpmux://localhost:{}/?ca={ca}&otp={passcode}&device=cam-01", address.port());
        EnrolledDevice::try_enrol(&line, &folder.path().join(name)).await
    };
    let is_heard = |interceptor: &Interceptor| {
        let heard = interceptor.heard();
        let basic = heard.lines().find_map(|line| {
            line.to_ascii_lowercase().starts_with("authorization: basic ").then(|| line[21..].to_owned())
        });
        let decoded =
            basic.map(|text| String::from_utf8(BASE64_STANDARD.decode(text.trim()).unwrap()).unwrap());
        heard.contains(&passcode) || decoded.is_some_and(|text| text.contains(&passcode))
    };
    // He shows the cloud's true CA certificates, which everybody can have: his own certificate betrays him.
    let relay = Interceptor::start(Habit::Relays(cloud.device_address())).await;
    let refused = try_through(&relay, &cloud.fingerprint(), "relay").await;
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(relay.heard().contains("/.well-known/est/cacerts"), "he was asked: {}", relay.heard());
    assert!(!is_heard(&relay) && !relay.heard().contains("simpleenroll"), "{}", relay.heard());
    // He shows his own: the fingerprint betrays him.
    let own = Interceptor::start(Habit::Answers).await;
    let refused = try_through(&own, &cloud.fingerprint(), "own").await;
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(refused.stderr.contains("the passcode was not sent"), "{}", refused.stderr);
    assert!(own.heard().contains("/.well-known/est/cacerts"), "{}", own.heard());
    assert!(!is_heard(&own) && !own.heard().contains("simpleenroll"), "{}", own.heard());
    // Control: a string that names him. The recording works.
    let fooled = try_through(&own, own.fingerprint(), "fooled").await;
    assert_ne!(fooled.code, 0);
    assert!(is_heard(&own) && own.heard().contains("simpleenroll"), "{}", own.heard());
    // The passcode is as good as new for its cloud.
    let line = format!(
        "tcpmux://{}/?ca={}&otp={passcode}&device=cam-01",
        cloud.device_address(),
        cloud.fingerprint()
    );
    EnrolledDevice::enrol_with(&line, "cam-01").await;
}

#[tokio::test]
async fn the_passcode_stands_in_no_command_line_and_no_environment() {
    let silent = Interceptor::start(Habit::KeepsSilent).await;
    let passcode = model::Passcode::from_random([7; 20]).reveal();
    let line = format!(
        "tcpmux://localhost:{}/?ca={}&otp={passcode}&device=cam-01",
        silent.address().port(),
        silent.fingerprint()
    );
    let folder = TempDir::new().unwrap();
    let mut child = Command::new(client_program())
        .args(["enroll", "-", "--state"])
        .arg(folder.path().join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(line.as_bytes()).await.unwrap();
    drop(input);
    eventually("the daemon has read the string and asks", || async {
        let heard = silent.heard();
        if heard.contains("cacerts") { Ok(()) } else { Err(heard) }
    })
    .await;
    let shown_by_whom = || {
        let mut found = vec![];
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            for file in ["cmdline", "environ", "comm"] {
                let shown = std::fs::read(entry.path().join(file)).unwrap_or_default();
                if shown.windows(passcode.len()).any(|window| window == passcode.as_bytes()) {
                    found.push(id);
                }
            }
        }
        found
    };
    assert_eq!(shown_by_whom(), [0; 0]);
    let mut control = Command::new("sh")
        .args(["-c", "read x", &passcode])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("control: an argument is seen", || async {
        let found = shown_by_whom();
        if found == [control.id().unwrap()] { Ok(()) } else { Err(found) }
    })
    .await;
    control.kill().await.unwrap();
    child.kill().await.unwrap();
}

/// The daemon's own patience: the cloud dies with the answer in its hands, and is back a moment later.
#[tokio::test]
async fn a_daemon_whose_answer_was_lost_gets_the_same_certificate_by_itself() {
    let mut cloud = Cloud::start().await;
    let line = cloud.enrolment_string("cam-01").await;
    cloud.kill();
    cloud.start_again_with(&[("TCPMUX_FAULT_POINT", "after-admitted")]).await;
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    let enrolling = EnrolledDevice::try_enrol(&line, &state);
    let restarting = async {
        assert_eq!(cloud.process().exit_code(Duration::from_secs(20)).await, 128 + 6);
        cloud.start_again().await;
    };
    let (enrolled, ()) = tokio::join!(enrolling, restarting);
    assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
    let rows = certificates_of(&cloud, "cam-01").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let certificate = std::fs::read_to_string(state.join("certificate.pem")).unwrap();
    assert_eq!(rows[0]["fingerprint"], fingerprint(&certificate));
}
