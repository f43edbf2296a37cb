//! `tcpmux login`: the device flow of RFC 8628, a real process against the certified provider.

use std::{ffi::OsString, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tests::{
    Browser, Cloud, Device, Finished, OidcProvider, Process, Service, cloud_program, eventually_within, run,
};

use super::scene::browser;

const BACK: &str = "https://cloud.example/login/idp/callback";

/// A person's home directory, where nothing of an operator lies.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(cloud_program());
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy().to_ascii_lowercase();
            if text.starts_with("tcpmux") || text.ends_with("_proxy") {
                command.env_remove(&key);
            }
        }
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"));
        command
    }

    async fn run(&self, words: &[&str]) -> Finished {
        self.run_with(words, b"").await
    }

    async fn run_with(&self, words: &[&str], input: &[u8]) -> Finished {
        let command = self.command(words);
        let mut arguments: Vec<OsString> = vec!["-C".into(), self.folder.path().into()];
        let mut set: Vec<OsString> = vec![];
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => set.push(format!("{}={}", key.display(), value.display()).into()),
                None => arguments.extend(["-u".into(), key.to_owned()]),
            }
        }
        arguments.extend(set);
        arguments.push(command.get_program().to_owned());
        arguments.extend(command.get_args().map(Into::into));
        run("env", arguments, input).await
    }

    fn begin(&self, cloud: &Cloud) -> Process {
        let (url, ca) = (cloud.user().url(""), cloud.root().display().to_string());
        Process::start("tcpmux login", self.command(&["login", "--cloud", &url, "--ca", &ca]))
    }

    fn kept(&self) -> std::path::PathBuf {
        self.folder.path().join("config/tcpmux/login.json")
    }
}

/// The address with the code that `tcpmux login` prints.
async fn address(process: &Process) -> String {
    eventually_within(Duration::from_secs(30), "the address to open is shown", || {
        let log = process.log();
        async move {
            log.lines().find_map(|line| line.strip_prefix("or open ")).map(str::to_owned).ok_or(log.clone())
        }
    })
    .await
}

async fn sign_in(home: &Home, cloud: &Cloud, provider: &OidcProvider, person: &str) -> Process {
    let mut process = home.begin(cloud);
    let address = address(&process).await;
    let mut browser: Browser = browser(cloud);
    let page = browser.open(&address).await.expect(200);
    provider.agree(&mut browser, page, person).await;
    assert_eq!(process.exit_code(Duration::from_secs(60)).await, 0, "{}", process.log());
    process
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_person_signs_in_from_the_command_line_and_reaches_a_device() {
    // Its identity tokens are over before the next command looks at them, so that each is renewed.
    let provider = OidcProvider::with_identity_tokens_of(BACK, 20).await;
    let cloud = Cloud::plan().config(&provider.config()).start().await;
    let echo = Service::echo().await;
    let mirror = Service::mirror().await;
    let services = [("web", mirror.url("http")), ("shell", echo.url("tcp"))];
    let _device = Device::enrol_and_run(&cloud, "cam-01", &services).await;
    let home = Home::new();

    let nobody = home.run(&["token", "--device", "cam-01"]).await;
    assert_eq!(nobody.code, 3, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("tcpmux login"), "{}", nobody.stderr);

    let process = sign_in(&home, &cloud, &provider, "alice").await;
    assert!(process.log().contains("as alice@example.com"), "{}", process.log());
    assert_eq!((mode(&home.kept()), mode(home.kept().parent().unwrap())), (0o600, 0o700));
    let kept = || serde_json::from_str::<Value>(&std::fs::read_to_string(home.kept()).unwrap()).unwrap();
    let before = kept();
    assert!(!process.log().contains(before["token"].as_str().unwrap()), "no token on the screen");

    let token = home.run(&["token", "--device", "cam-01"]).await;
    assert_eq!(token.code, 0, "{}", token.stderr);
    let refused = cloud.user().get("/d/cam-01/web/").bearer(token.stdout.trim()).send().await;
    assert_eq!(refused.problem().await, "403 TMX-4030", "signed in, and not granted anything");
    assert_ne!(kept()["token"], before["token"], "an old identity token was renewed");

    let id = process.log().rsplit("(").next().unwrap().split(')').next().unwrap().to_owned();
    cloud.grant("cam-01", &id, json!({"level": "operator"})).await;
    let token = home.run(&["token", "--device", "cam-01"]).await;
    cloud.user().get("/d/cam-01/web/").bearer(token.stdout.trim()).send().await.expect(200).await;
    let said = home.run_with(&["connect", "cam-01", "shell"], b"hello").await;
    assert_eq!((said.code, said.stdout.as_str()), (0, "hello"), "{}", said.stderr);

    let out = home.run(&["logout"]).await;
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(!home.kept().exists());
    assert_eq!(home.run(&["token", "--device", "cam-01"]).await.code, 3);
    // What was kept is worth nothing any more, also for somebody who made a copy.
    std::fs::write(home.kept(), before.to_string()).unwrap();
    std::fs::set_permissions(home.kept(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let copied = home.run(&["token", "--device", "cam-01"]).await;
    assert_eq!(copied.code, 3, "{}", copied.stderr);
}

#[tokio::test]
async fn whoever_declines_is_not_signed_in_and_told_so() {
    let provider = OidcProvider::start(BACK).await;
    let cloud = Cloud::plan().config(&provider.config()).start().await;
    let home = Home::new();
    let mut process = home.begin(&cloud);
    let mut browser = browser(&cloud);
    let page = browser.open(&address(&process).await).await.expect(200);
    // Past the code, as far as the question who it is; then away.
    let page = browser.submit(&page, &[]).await;
    let page =
        if page.url.path().starts_with("/interaction") { page } else { browser.submit(&page, &[]).await };
    browser.open(&format!("{}/abort", page.url)).await;
    assert_eq!(process.exit_code(Duration::from_secs(60)).await, 3, "{}", process.log());
    assert!(process.log().contains("access_denied") && !home.kept().exists(), "{}", process.log());
}

#[tokio::test]
async fn a_command_line_without_a_provider_or_a_cloud_says_what_to_do() {
    let home = Home::new();
    let cloud = Cloud::start().await;
    let mut process = home.begin(&cloud);
    assert_eq!(process.exit_code(Duration::from_secs(30)).await, 1, "{}", process.log());
    assert!(process.log().contains("cli_client_id"), "{}", process.log());
    let nowhere = home.run(&["login"]).await;
    assert_eq!(nowhere.code, 2, "{}", nowhere.stderr);
    let absent = home.run(&["login", "--cloud", "https://127.0.0.1:1"]).await;
    assert_eq!(absent.code, 6, "{}", absent.stderr);
    assert_eq!(home.run(&["logout"]).await.code, 0);
}
