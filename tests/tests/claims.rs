//! Claiming, told by real processes: a code on a device becomes an owner in the cloud, whatever dies on the way.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use http::Method;
use model::ClaimCode;
use serde_json::{Value, json};
use tests::{
    Cloud, CloudPlan, Device, Provider, Service, client_program, eventually, eventually_within, run,
};
use tokio::time::Instant;

/// A cloud with people, and one device that shows a code.
pub(crate) struct Scene {
    pub(crate) provider: Provider,
    pub(crate) cloud: Cloud,
    pub(crate) device: Device,
    _service: Service,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::configured("").await
    }

    pub(crate) async fn configured(config: &str) -> Self {
        Self::on(Cloud::plan().config(config)).await
    }

    pub(crate) async fn on(plan: CloudPlan) -> Self {
        let provider = Provider::start().await;
        let cloud = plan.provider(&provider).start().await;
        let service = Service::mirror().await;
        let device = Device::enrol_and_run(&cloud, "cam-01", &[("web", service.url("http"))]).await;
        Self { provider, cloud, device, _service: service }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.device.state().join("claim_code")
    }

    /// The code that the device shows, once it does; `None` for any, else another than this.
    pub(crate) async fn code(&self, other_than: Option<&str>) -> String {
        eventually_within(Duration::from_secs(30), "the device shows a code", || async {
            match std::fs::read_to_string(self.file()) {
                Ok(text) if Some(text.as_str()) != other_than => Ok(text),
                Ok(_) => Err("still the old one".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    pub(crate) async fn no_code(&self) {
        eventually("the code disappears", || async {
            if self.file().exists() { Err("it is there") } else { Ok(()) }
        })
        .await;
    }

    pub(crate) async fn claim(&self, person: &str, code: &str) -> (u16, Value) {
        let call = self.cloud.user().post("/v1/claims").bearer(&self.provider.token(person));
        let answer = call.json(&json!({ "code": code })).send().await;
        (answer.status.as_u16(), answer.json().await)
    }

    pub(crate) async fn call(&self, person: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let mut call = self.cloud.user().call(method, path).bearer(&self.provider.token(person));
        if !body.is_null() {
            call = call.json(&body);
        }
        let answer = call.send().await;
        let status = answer.status.as_u16();
        let text = answer.text().await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn owner(&self) -> Value {
        self.cloud.device_record("cam-01").await["owner"].clone()
    }
}

pub(crate) fn wrong_code(number: u32) -> String {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    ClaimCode::from_random(bytes).reveal().expose().clone()
}

#[tokio::test]
async fn a_person_reads_the_code_off_a_device_and_owns_it() {
    let scene = Scene::set().await;
    let code = scene.code(None).await;
    assert_eq!(std::fs::metadata(scene.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let state = scene.device.state().display().to_string();
    let words = ["claim", "--no-local-api", "--state", &state];
    let printed = run(client_program(), words, b"").await;
    assert_eq!((printed.code, printed.stdout.trim()), (0, code.trim()));

    let (status, claimed) = scene.claim("alice", &code).await;
    assert_eq!((status, claimed), (201, json!({"device": "cam-01", "level": "owner"})));
    scene.no_code().await;
    let alice = scene.cloud.user_id(&scene.provider.token("alice")).await;
    assert_eq!(scene.owner().await, json!(alice));
    // The owner uses it like any other.
    let token = scene.cloud.user_token(&scene.provider.token("alice")).await;
    scene.cloud.user().get("/d/cam-01/web/hello").bearer(&token).send().await.expect(200).await;
    let printed = run(client_program(), words, b"").await;
    assert_eq!(printed.code, 7, "no local API answers here: {}", printed.stderr);
    let (used, absent) = (scene.claim("bob", &code).await, scene.claim("bob", &wrong_code(1)).await);
    assert_eq!(used, absent);
    assert_eq!(used.0, 404);
    let dump = scene.cloud.log() + &scene.device.log();
    assert!(!dump.contains(code.trim()), "the code was logged");
}

#[tokio::test]
async fn sixteen_people_with_one_code_and_one_owner() {
    let scene = Scene::set().await;
    let code = scene.code(None).await;
    let people: Vec<String> = (0..16).map(|number| format!("racer-{number}")).collect();
    let races = people.iter().map(|person| scene.claim(person, &code));
    let answers = futures_util::future::join_all(races).await;
    let won = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(won, 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| matches!(status, 201 | 404 | 409)), "{answers:?}");
    let record = scene.cloud.device_record("cam-01").await;
    assert_eq!(record["grants"].as_array().unwrap().len(), 1, "{record}");
    scene.no_code().await;
}

#[tokio::test]
async fn a_code_outlives_the_deaths_of_both_sides() {
    let mut scene = Scene::set().await;
    let code = scene.code(None).await;
    scene.device.kill();
    let (status, refused) = scene.claim("alice", &code).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("device_offline")), "{refused}");
    scene.device.start_again();
    scene.cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    scene.cloud.kill();
    scene.cloud.start_again().await;
    scene.cloud.until_online("cam-01", true, Duration::from_secs(60)).await;
    assert_eq!(std::fs::read_to_string(scene.file()).unwrap(), code, "the same code still stands");
    assert_eq!(scene.claim("alice", &code).await.0, 201);
    scene.no_code().await;
}

#[tokio::test]
async fn a_code_that_the_device_lost_is_replaced_and_one_that_it_should_not_have_goes() {
    let mut scene = Scene::set().await;
    let code = scene.code(None).await;
    // As if it had died before the code was on its disk.
    scene.device.kill();
    std::fs::remove_file(scene.file()).unwrap();
    scene.device.start_again();
    let fresh = scene.code(Some(&code)).await;
    assert_eq!(scene.claim("alice", &code).await.0, 404);
    assert_eq!(scene.claim("alice", &fresh).await.0, 201);
    scene.no_code().await;
    // As if the cloud had died before it could say that the device is claimed.
    scene.device.kill();
    std::fs::write(scene.file(), &fresh).unwrap();
    std::fs::set_permissions(scene.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    scene.device.start_again();
    scene.no_code().await;
}

#[tokio::test]
async fn a_released_device_is_anybodys_and_its_last_owners_people_are_cut_off() {
    let scene = Scene::set().await;
    let code = scene.code(None).await;
    assert_eq!(scene.claim("alice", &code).await.0, 201);
    scene.no_code().await;
    let bob = scene.cloud.user_id(&scene.provider.token("bob")).await;
    scene.cloud.grant("cam-01", &bob, json!({"level": "operator"})).await;
    let token = scene.cloud.user_token(&scene.provider.token("bob")).await;
    let get = async || scene.cloud.user().get("/d/cam-01/web/x").bearer(&token).send().await.status;
    assert_eq!(get().await, 200);
    let released = scene.call("alice", Method::DELETE, "/v1/devices/cam-01/owner", Value::Null).await;
    assert_eq!(released.0, 204);
    assert_eq!(get().await, 403, "the next request is refused");
    let fresh = scene.code(Some(&code)).await;
    assert_eq!(scene.owner().await, Value::Null);
    assert_eq!(scene.claim("bob", &fresh).await.0, 201);
    assert_eq!(scene.owner().await, json!(bob));
    assert_eq!(scene.call("alice", Method::GET, "/v1/devices/cam-01", Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_device_is_handed_on_without_a_code() {
    let scene = Scene::set().await;
    let code = scene.code(None).await;
    assert_eq!(scene.claim("alice", &code).await.0, 201);
    let bob = scene.cloud.user_id(&scene.provider.token("bob")).await;
    let (status, offer) =
        scene.call("alice", Method::POST, "/v1/devices/cam-01/transfers", json!({ "to": bob })).await;
    assert_eq!(status, 201, "{offer}");
    let accept = format!("/v1/transfers/{}/accept", offer["id"].as_str().unwrap());
    assert_eq!(scene.call("eve", Method::POST, &accept, Value::Null).await.0, 404);
    assert_eq!(scene.call("bob", Method::POST, &accept, Value::Null).await.0, 200);
    assert_eq!(scene.owner().await, json!(bob));
    assert_eq!(scene.call("alice", Method::GET, "/v1/devices/cam-01", Value::Null).await.0, 404);
    scene.no_code().await;
}

#[tokio::test]
async fn wrong_used_and_absent_codes_take_the_same_time_and_many_of_them_lock_nobody_out() {
    let scene = Scene::set().await;
    let used = scene.code(None).await;
    assert_eq!(scene.claim("alice", &used).await.0, 201);
    assert_eq!(scene.call("alice", Method::DELETE, "/v1/devices/cam-01/owner", Value::Null).await.0, 204);
    let code = scene.code(Some(&used)).await;
    // One after the other in turns, so that a slow moment of the machine falls on all of them.
    let (mut of_used, mut of_absent, mut of_two) = (vec![], vec![], vec![]);
    let timed = async |person: &str, code: &str| {
        let began = Instant::now();
        let (status, _) = scene.claim(person, code).await;
        (status, began.elapsed())
    };
    for round in 0..200_u32 {
        let person = format!("guesser-{}", round % 40);
        let (status, took) = timed(&person, &used).await;
        assert!(matches!(status, 404 | 429), "{status}");
        of_used.push(took);
        let (status, took) = timed(&person, &wrong_code(round)).await;
        assert!(matches!(status, 404 | 429), "{status}");
        of_absent.push(took);
        let began = Instant::now();
        scene.claim(&person, &wrong_code(round)).await;
        scene.claim(&person, &wrong_code(round)).await;
        of_two.push(began.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let (used_s, absent_s) = (median(&mut of_used), median(&mut of_absent));
    let ratio = used_s / absent_s;
    assert!((0.7..1.4).contains(&ratio), "used {used_s} s, absent {absent_s} s");
    // The control: as little as one look more is told apart by this very measure.
    let two_s = median(&mut of_two);
    assert!(two_s / absent_s > 1.4, "two {two_s} s, one {absent_s} s");
    let (status, malformed) = scene.claim("guesser-0", "BBBB-BBBB-BBBB-BBBB-BBBC").await;
    assert_eq!((status, &malformed["reason"]), (400, &json!("malformed_code")));
    let limited = scene.claim("guesser-0", &wrong_code(9999)).await;
    assert_eq!(limited.0, 429, "{limited:?}");
    assert_eq!(scene.claim("guesser-0", &code).await.0, 201, "a right code is never refused for wrong ones");
}

#[tokio::test]
async fn a_reset_on_the_device_ends_an_ownership_where_the_operator_lets_it() {
    for (policy, expected) in [("owner", 3), ("device", 0)] {
        let mut scene = Scene::configured(&format!("[claims]\nfactory_reset = \"{policy}\"\n")).await;
        let code = scene.code(None).await;
        assert_eq!(scene.claim("alice", &code).await.0, 201);
        scene.no_code().await;
        let bob = scene.cloud.user_id(&scene.provider.token("bob")).await;
        scene.cloud.grant("cam-01", &bob, json!({"level": "operator"})).await;
        let state = scene.device.state().display().to_string();
        let reset = async |more: &[&str]| {
            let words = [&["reset", "--no-local-api", "--state", &state], more].concat();
            run(client_program(), words, b"cam-01\n").await
        };
        let unsure = reset(&[]).await;
        assert!(unsure.code == 2 && unsure.stderr.contains("--yes"), "no terminal, no yes: {unsure:?}");
        assert_ne!(scene.owner().await, Value::Null);

        let done = reset(&["--yes"]).await;
        assert_eq!(done.code, expected, "{policy}: {done:?}");
        let left = scene.call("bob", Method::GET, "/v1/devices/cam-01", Value::Null).await.0;
        if policy == "owner" {
            assert!(done.stderr.contains("factory_reset"), "it says who can: {done:?}");
            assert_ne!(scene.owner().await, Value::Null);
            assert_eq!(left, 200, "nobody lost anything");
        } else {
            let fresh = scene.code(Some(&code)).await;
            assert_eq!((scene.owner().await, left), (Value::Null, 404));
            let log = scene.cloud.command("audit ls").await.stdout;
            let row = log.lines().find(|row| row.contains("device.release"));
            assert!(row.is_some_and(|row| row.contains("device:default/cam-01")), "{log}");
            assert_eq!(reset(&["--yes"]).await.code, 0, "once more does no harm");
            assert_eq!(scene.claim("bob", &fresh).await.0, 201, "the new code stands");
        }
        scene.cloud.kill();
        let away = reset(&["--yes"]).await;
        assert!(away.code == 6 && away.stderr.contains("nothing was changed"), "{away:?}");
    }
}

#[tokio::test]
async fn a_reset_asks_whoever_sits_at_a_terminal() {
    let scene = Scene::configured("[claims]\nfactory_reset = \"device\"\n").await;
    let code = scene.code(None).await;
    assert_eq!(scene.claim("alice", &code).await.0, 201);
    scene.no_code().await;
    let state = scene.device.state();
    let program = client_program();
    let command = format!("'{}' reset --no-local-api --state '{}'", program.display(), state.display());
    for (answer, expected) in [("y\n", 1), ("cam-01\n", 0)] {
        let typescript = state.join("typescript").display().to_string();
        let said = run("script", ["-qec", &command, &typescript], answer.as_bytes()).await;
        assert_eq!(said.code, expected, "{answer:?}: {said:?}");
        assert!(said.stdout.contains("Write cam-01 to go on"), "{said:?}");
        assert_eq!(scene.owner().await == Value::Null, expected == 0);
    }
}
