//! The way of a device to its owner on a shared registry that is stopped, killed, emptied and started again at every
//! point of it: what lasts is in the store, and nobody's call fails.

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Redis, eventually};

use crate::claims::Scene;

use super::neighbour::Neighbour;

/// What happens to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It does not answer, and is let go on later.
    Stopped,
    /// It is gone, and comes back empty later.
    Killed,
    /// It forgets everything.
    Emptied,
    /// It is gone and back, empty, at once.
    Restarted,
}

impl Fault {
    async fn begin(self, redis: &mut Redis) {
        match self {
            Self::Stopped => redis.signal("STOP"),
            Self::Killed => redis.kill(),
            Self::Emptied => assert_eq!(redis.ask("FLUSHALL").await, "OK"),
            Self::Restarted => {
                redis.kill();
                redis.start_again().await;
            }
        }
    }

    async fn end(self, redis: &mut Redis) {
        match self {
            Self::Stopped => redis.signal("CONT"),
            Self::Killed => redis.start_again().await,
            Self::Emptied | Self::Restarted => {}
        }
    }
}

impl Scene {
    async fn owns(&self, person: &str, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(person, method.clone(), path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}

#[tokio::test]
async fn claiming_loses_nothing_to_any_outage_of_the_registry() {
    let mut redis = Redis::start().await;
    let mut scene = Scene::on(Cloud::plan().flag("--registry").flag(&redis.url())).await;
    let neighbour = Neighbour::move_in(&scene.cloud).await;
    let traffic = neighbour.ask_all_the_time();
    let bob = scene.cloud.user_id(&scene.provider.token("bob")).await;
    let mut last = scene.code(None).await;
    for fault in [Fault::Stopped, Fault::Killed, Fault::Emptied, Fault::Restarted] {
        // Before the code is handed over: the device lost it, and connects anew.
        scene.device.kill();
        std::fs::remove_file(scene.file()).unwrap();
        fault.begin(&mut redis).await;
        scene.device.start_again();
        let code = scene.code(Some(&last)).await;
        fault.end(&mut redis).await;

        // Between the code and the claim: it stays as it is, on the device and in the cloud.
        fault.begin(&mut redis).await;
        let used = scene.claim("bob", &last).await;
        assert_eq!(used.0, 404, "{fault:?}: the code before is replaced: {used:?}");
        fault.end(&mut redis).await;

        // At the claim, by two at once: one owner.
        fault.begin(&mut redis).await;
        let both = tokio::join!(scene.claim("alice", &code), scene.claim("racer", &code));
        fault.end(&mut redis).await;
        let (owner, claimed, other) = match &both {
            ((201, claimed), (other, _)) => ("alice", claimed, *other),
            ((other, _), (201, claimed)) => ("racer", claimed, *other),
            neither => panic!("{fault:?}: nobody got it: {neither:?}"),
        };
        assert_eq!(*claimed, json!({"device": "cam-01", "level": "owner"}));
        assert!(matches!(other, 404 | 409), "{fault:?}: {both:?}");
        scene.no_code().await;
        let record = scene.cloud.device_record("cam-01").await;
        assert_eq!(record["grants"].as_array().unwrap().len(), 1, "{fault:?}: {record}");

        // After it: the owner shares, both use it, and the share ends at once.
        let share = format!("/v1/devices/cam-01/grants/{bob}");
        fault.begin(&mut redis).await;
        scene.owns(owner, Method::PUT, &share, json!({"level": "viewer"})).await;
        let mut tokens = vec![];
        for person in [owner, "bob"] {
            let token = scene.cloud.user_token(&scene.provider.token(person)).await;
            scene.cloud.user().get("/d/cam-01/web/x").bearer(&token).send().await.expect(200).await;
            tokens.push(token);
        }
        scene.owns(owner, Method::DELETE, &share, Value::Null).await;
        let refused = scene.cloud.user().get("/d/cam-01/web/x").bearer(&tokens[1]).send().await;
        assert_eq!(refused.problem().await, "403 TMX-4030", "{fault:?}");
        fault.end(&mut redis).await;

        // And the way back: nobody's, with a new code that nobody has said yet.
        fault.begin(&mut redis).await;
        scene.owns(owner, Method::DELETE, "/v1/devices/cam-01/owner", Value::Null).await;
        last = scene.code(Some(&code)).await;
        assert_eq!(scene.owner().await, Value::Null);
        fault.end(&mut redis).await;
    }
    traffic.was_undisturbed().await;
    eventually("the registry has both devices again", || async {
        let rows = redis.rows().await;
        if rows == ["default/cam-01", "default/neighbour"] { Ok(()) } else { Err(rows) }
    })
    .await;
}
