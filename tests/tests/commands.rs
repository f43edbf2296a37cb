//! The operator's commands: what they print, and the exit codes that scripts compare.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tests::{
    Cloud, Device, EnrolledDevice, Provider, Service, client_program, cloud_program, eventually, run,
    workspace,
};

use crate::stage::Stage;

#[tokio::test]
async fn every_exit_code_of_the_contract_can_be_seen() {
    let service = Service::echo().await;
    let mut stage = Stage::set(&[("shell", service.url("tcp"))]).await;
    let cloud = &stage.cloud;
    let code = async |words: &str| cloud.command(words).await.code;
    assert_eq!(code("status").await, 0);
    assert_eq!(code("device ls").await, 0);
    assert_eq!(code("device ls --no-such-flag").await, 2);
    assert_eq!(code("device get Not_A_Name").await, 2);
    assert_eq!(code("device get no-such-device").await, 4);
    assert_eq!(code("tenant new default").await, 5);
    assert_eq!(code("up --public-url http://not-https.example").await, 78);
    assert_eq!(code("up").await, 1, "another process has this data directory");
    let nowhere = run(cloud_program(), ["status", "--data", "/nonexistent"], b"").await;
    assert_eq!(nowhere.code, 6, "{nowhere:?}");
    assert!(nowhere.stderr.contains("tcpmux up"), "the remedy is named: {}", nowhere.stderr);
    // The same door with a wrong key.
    let directory = tempfile::tempdir().unwrap();
    let key = secret(&directory.path().join("key"), &"0".repeat(64));
    let root = cloud.root().display().to_string();
    let door = cloud.admin().url("");
    let words = ["device", "ls", "--admin", &door, "--ca", &root, "--key-file", &key];
    assert_eq!(run(cloud_program(), words, b"").await.code, 3);
    stage.device.kill();
    cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    let offline = stage.cloud.command("connect cam-01 shell").await;
    assert_eq!(offline.code, 7, "{offline:?}");
}

#[tokio::test]
async fn a_cloud_that_cannot_write_is_degraded_and_says_what_to_look_at() {
    let cloud = Cloud::start().await;
    let status = cloud.command("status -o json").await;
    assert_eq!((status.code, status.stdout.contains(r#""state": "ready""#)), (0, true), "{status:?}");
    let lock = cloud.lock_database().await;
    cloud.admin().get("/readyz").send().await.expect(200).await;
    for (words, said) in [("status", "Problem  writes: "), ("doctor", "FAIL  writes")] {
        let degraded = cloud.command(words).await;
        assert_eq!(degraded.code, 8, "{words}: {degraded:?}");
        assert!(degraded.stdout.contains(said), "{words}: {}", degraded.stdout);
    }
    drop(lock);
    eventually("healthy again", || async {
        let status = cloud.command("status").await;
        if status.code == 0 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let cloud = Cloud::start().await;
    let directory = tempfile::tempdir().unwrap();
    let key = secret(&directory.path().join("key"), cloud.key());
    let words = |key: &str| {
        let root = cloud.root().display().to_string();
        [
            "device".into(),
            "ls".into(),
            "--admin".into(),
            cloud.admin().url(""),
            "--ca".into(),
            root,
            "--key-file".into(),
            key.to_owned(),
        ]
    };
    assert_eq!(run(cloud_program(), words(&key), b"").await.code, 0);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(cloud_program(), words(&key), b"").await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
}

#[tokio::test]
async fn listings_give_json_that_scripts_can_read() {
    let service = Service::echo().await;
    let stage = Stage::set(&[("shell", service.url("tcp"))]).await;
    for words in ["device ls", "cert ls", "passcode ls", "tenant ls", "device get cam-01", "status"] {
        let listed = stage.cloud.command(&format!("{words} -o json")).await;
        assert_eq!(listed.code, 0, "{words}: {}", listed.stderr);
        let value: Value =
            serde_json::from_str(&listed.stdout).unwrap_or_else(|error| panic!("{words}: {error}"));
        assert!(value.is_array() || value.is_object());
    }
    let devices = stage.cloud.command("device ls -o json").await;
    let devices: Value = serde_json::from_str(&devices.stdout).unwrap();
    assert_eq!((&devices[0]["id"], &devices[0]["online"]), (&"cam-01".into(), &true.into()));
    let shown = stage.cloud.device_record("cam-01").await;
    for member in ["online", "verified_at", "node", "generation", "certificate", "services"] {
        assert!(!shown[member].is_null(), "{member} in {shown}");
    }
    for member in ["fingerprint", "serial", "not_after", "status"] {
        assert!(shown["certificate"][member].is_string(), "{member} in {shown}");
    }
}

#[tokio::test]
async fn listings_leave_nothing_out_that_is_known() {
    let (service, provider) = (Service::echo().await, Provider::start().await);
    let cloud = Cloud::with_provider(&provider).await;
    let mut stage = Stage::on(cloud, &[("web", service.url("http")), ("shell", service.url("tcp"))]).await;
    let cloud = &stage.cloud;
    let user = cloud.user_id(&provider.token("alice")).await;
    cloud.grant("cam-01", &user, json!({"level": "owner", "services": ["web"]})).await;
    cloud.command("tenant new acme").await;
    cloud.command("passcode new --tenant acme --device lamp-1").await;
    let table = async |words: &str| {
        let listed = cloud.command(words).await;
        assert_eq!(listed.code, 0, "{words}: {}", listed.stderr);
        listed.stdout
    };
    let complete = async |words: &str| {
        let text = table(words).await;
        let is_gap = |word: &str| word == "-";
        assert!(!text.split_whitespace().any(is_gap), "a gap in what `{words}` says:\n{text}");
        text
    };
    let devices = complete("device ls").await;
    let row: Vec<&str> = devices.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3], row[4], row[5]), ("cam-01", "yes", "shell,web", &*user, "active"));
    let one = table("device get cam-01").await;
    assert!(one.lines().last().unwrap().starts_with(&format!("{user}  owner  web")), "{one}");
    assert!(complete("passcode ls").await.contains("redeemed"));
    let other = table("passcode ls --tenant acme").await;
    assert!(other.contains("lamp-1  open"), "{other}");
    assert_eq!(table("cert ls --tenant acme").await.lines().count(), 1, "headings alone");
    let certificates = complete("cert ls").await;
    let fingerprint = certificates.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(table("tenant ls").await.lines().all(|line| !line.contains("1970")));
    let shown = table(&format!("cert get {fingerprint}")).await;
    assert_eq!(shown.lines().filter(|line| line.ends_with('-')).count(), 1, "it renews none: {shown}");

    // Gone, and revoked: what was known stays to be read.
    let receipt = complete(&format!("cert revoke {fingerprint} --reason keyCompromise")).await;
    assert!(receipt.contains("tunnels closed           1"), "{receipt}");
    cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    stage.device.kill();
    let devices = eventually("the end is noted", || async {
        let text = table("device ls").await;
        if text.contains("shell,web") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(devices.contains("cam-01  no ") && devices.contains("revoked"), "{devices}");
    assert!(!devices.split_whitespace().any(|word| word == "-"), "{devices}");
    assert!(complete("cert ls").await.contains("revoked"));
}

#[tokio::test]
async fn a_passcode_from_the_command_line_enrols_with_the_string_it_prints() {
    let cloud = Cloud::start().await;
    let made = cloud.command("passcode new --device cam-01 --ttl 5m").await;
    assert_eq!(made.code, 0, "{made:?}");
    let string =
        made.stdout.lines().find(|line| line.starts_with("tcpmux://")).expect("the string on a line");
    EnrolledDevice::enrol_with(string, "cam-01").await;
    let listed: Value = serde_json::from_str(&cloud.command("passcode ls -o json").await.stdout).unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(cloud.command(&format!("passcode rm {id}")).await.code, 0);
    assert_eq!(cloud.command(&format!("passcode rm {id}")).await.code, 4);
}

#[tokio::test]
async fn the_daemons_exit_codes_tell_configuration_from_network_and_refusal() {
    let cloud = Cloud::start().await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").display().to_string();
    let wrong_config = directory.path().join("client.toml");
    std::fs::write(&wrong_config, "no_such_key = 1\n").unwrap();
    let config = wrong_config.display().to_string();
    let bad =
        run(client_program(), ["run", "--no-local-api", "--config", &config, "--state", &state], b"").await;
    assert_eq!(bad.code, 78, "{bad:?}");
    assert!(bad.stderr.contains("no_such_key"), "{}", bad.stderr);
    let far =
        format!("tcpmux://127.0.0.1:1/?ca={}&otp={}", cloud.fingerprint(), cloud.passcode("cam-01").await);
    let unreachable = EnrolledDevice::try_enrol(&far, Path::new(&state)).await;
    assert_eq!(unreachable.code, 6, "{unreachable:?}");
    let used = cloud.enrolment_string("cam-01").await;
    EnrolledDevice::enrol_with(&used, "cam-01").await;
    let again = EnrolledDevice::try_enrol(&used, Path::new(&state)).await;
    assert_eq!(again.code, 5, "a passcode that another key has used: {again:?}");
    let garbage = EnrolledDevice::try_enrol("https://example.com/", Path::new(&state)).await;
    assert_eq!(garbage.code, 2, "{garbage:?}");
}

#[tokio::test]
async fn configuration_is_checked_shown_and_refused_with_the_key_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloud.toml");
    let show = async |text: &str, words: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let path = file.display().to_string();
        let mut all = vec!["config"];
        all.extend(words);
        all.extend(["--config", &path]);
        run(cloud_program(), all, b"").await
    };
    assert_eq!(show("", &["check"]).await.code, 0);
    let shown = show(
        "public_url = \"https://cloud.example.com\"",
        &["show", "--roles", "tunnel,proxy,provision,gateway"],
    )
    .await;
    assert!(shown.stdout.contains("https://cloud.example.com"), "{shown:?}");
    for (text, named) in [
        ("publik_url = \"https://x\"", "publik_url"),
        ("[listen]\nuser = \"everywhere\"", "user"),
        ("store = \"postgres://db\"", "store"),
        ("registry = \"http://r\"", "registry"),
        ("[[oidc]]\nissuer = \"http://login.example.com\"\naudience = \"a\"\ntenant = \"default\"", "issuer"),
        ("roles = [\"tunnel\", \"proxy\"]", "device_ca"),
    ] {
        let wrong = show(text, &["check"]).await;
        assert_eq!(wrong.code, 78, "{text}: {wrong:?}");
        assert!(wrong.stderr.contains(named), "{text}: {}", wrong.stderr);
    }
}

#[tokio::test]
async fn the_example_units_and_configurations_of_deploy_are_right() {
    let deploy = workspace().join("deploy");
    let mut checked = 0;
    for entry in files(&deploy) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("cloud") && name.ends_with(".toml") {
            let path = entry.display().to_string();
            let finished = run(cloud_program(), ["config", "check", "--config", &path], b"").await;
            assert_eq!(finished.code, 0, "{path}: {}", finished.stderr);
            checked += 1;
        }
        if name.ends_with(".service") {
            let text = std::fs::read_to_string(&entry).unwrap();
            assert!(text.contains("NoNewPrivileges=") && text.contains("ExecStart="), "{name}");
            checked += 1;
        }
    }
    assert!(checked > 0, "something is there to be checked");
}

#[tokio::test]
async fn doctor_finds_a_healthy_cloud_healthy_and_a_device_knows_itself() {
    let service = Service::echo().await;
    let cloud = Cloud::start().await;
    let healthy = cloud.command("doctor").await;
    assert_eq!(healthy.code, 0, "{healthy:?}");
    assert!(healthy.stdout.contains("ok") && !healthy.stdout.contains("FAIL"), "{}", healthy.stdout);
    let device = Device::enrol_and_run(&cloud, "cam-01", &[("shell", service.url("tcp"))]).await;
    let state = device.state().display().to_string();
    let doctor = run(client_program(), ["doctor", "--state", &state], b"").await;
    assert_eq!(doctor.code, 0, "{doctor:?}");
}

/// A file that only its owner can read.
fn secret(path: &Path, text: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    path.display().to_string()
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found
}

#[tokio::test]
async fn the_cloud_allocates_with_jemalloc_and_the_daemon_with_the_systems_allocator() {
    let tells = async |program: &Path| {
        let program = program.display().to_string();
        let finished = run("env", ["_RJEM_MALLOC_CONF=stats_print:true", &program, "--version"], b"").await;
        assert_eq!(finished.code, 0, "{finished:?}");
        finished.stderr.contains("jemalloc")
    };
    assert!(tells(cloud_program().as_ref()).await, "docs/decisions/0012");
    assert!(!tells(client_program().as_ref()).await);
}
