//! D12: whoever says wrong claim codes is limited, by user, by address and all together; whoever reads the right one
//! off the device gets in all along, be it from the very account and address that said the wrong ones.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tests::{Door, eventually_within};
use tokio::task::JoinSet;

use crate::claims::{Scene, wrong_code};

/// Somebody who says wrong codes: a connection from an address, and tokens that are shown in turns.
struct Guesser {
    door: Door,
    tokens: Vec<String>,
}

/// What the wrong codes of some guessers were answered.
#[derive(Debug, Default, Clone, Copy)]
struct Answers {
    wrong: usize,
    limited: usize,
}

impl Scene {
    fn guesser(&self, source: u16, people: impl IntoIterator<Item = String>) -> Guesser {
        let [high, low] = source.to_be_bytes();
        let door = self.cloud.user().from_source(IpAddr::from(Ipv4Addr::new(127, 3, high, low)));
        Guesser { door, tokens: people.into_iter().map(|person| self.provider.token(&person)).collect() }
    }

    /// The owner releases and claims, again and again, from the address and the account of a guesser.
    async fn own_until(&self, is_over: &AtomicBool) -> usize {
        let mut claims = 0;
        let mut code = self.code(None).await;
        loop {
            let last = is_over.load(Ordering::Acquire);
            let claimed = self.claim("alice", &code).await;
            assert_eq!(claimed.0, 201, "after {claims} claims: {claimed:?}");
            claims += 1;
            if last {
                return claims;
            }
            let released = self.call("alice", Method::DELETE, "/v1/devices/cam-01/owner", Value::Null).await;
            assert_eq!(released.0, 204, "{released:?}");
            code = self.code(Some(&code)).await;
        }
    }
}

/// Says so many wrong codes, each guesser its share on one connection.
async fn say(guessers: Vec<Guesser>, count: usize, first: u32) -> Answers {
    let (share, mut tasks) = (count / guessers.len(), JoinSet::new());
    for (place, Guesser { door, tokens }) in (0..).zip(guessers) {
        tasks.spawn(async move {
            let (mut answers, mut connection) = (Answers::default(), door.multiplexed().await);
            for number in 0..u32::try_from(share).unwrap() {
                let code = wrong_code(first + place * 100_000 + number);
                let token = &tokens[number as usize % tokens.len()];
                let call = door.post("/v1/claims").bearer(token).json(&json!({ "code": code }));
                let answer = call.send_on(&mut connection).await;
                match answer.status.as_u16() {
                    404 => answers.wrong += 1,
                    429 => {
                        let wait: u64 = answer.header("retry-after").parse().unwrap();
                        assert!((1..=3601).contains(&wait), "{wait}");
                        answers.limited += 1;
                    }
                    other => panic!("{other}: {}", answer.text().await),
                }
            }
            answers
        });
    }
    let mut sum = Answers::default();
    for Answers { wrong, limited } in tasks.join_all().await {
        sum = Answers { wrong: sum.wrong + wrong, limited: sum.limited + limited };
    }
    sum
}

async fn storm(count: usize) {
    let scene = Scene::set().await;
    let people = |from: usize| (from..from + 100).map(|number| format!("guesser-{number}"));
    let is_over = AtomicBool::new(false);
    let guessing = async {
        // The owner's own account, from a hundred addresses: ten an hour.
        let guessers = (0..100).map(|source| scene.guesser(source, ["alice".into()])).collect();
        let one_user = say(guessers, 200, 0).await;
        assert_eq!((one_user.wrong, one_user.limited), (10, 190));
        // One address, which the owner's calls come from too: a hundred an hour, whoever says them.
        let here = |tokens: Vec<String>| Guesser { door: scene.cloud.user(), tokens };
        let tokens: Vec<_> = people(0).map(|person| scene.provider.token(&person)).collect();
        let one_address = say((0..8).map(|_| here(tokens.clone())).collect(), 304, 10_000_000).await;
        assert_eq!((one_address.wrong, one_address.limited), (100, 204));
        // A hundred people from a hundred addresses: a thousand an hour, of everybody.
        let guessers =
            people(100).zip(200..).map(|(person, source)| scene.guesser(source, [person])).collect();
        let rest = count - 504;
        let fleet = say(guessers, rest, 20_000_000).await;
        // Who is fast comes to the end of his own ten before everybody's thousand are used up.
        assert!((1..=1000 - 504).contains(&fleet.wrong), "{fleet:?}");
        assert_eq!(fleet.limited, rest / 100 * 100 - fleet.wrong);
        // The control: in this moment a wrong code of the owner is refused for the limit.
        let limited = scene.claim("alice", &wrong_code(99_999_999)).await;
        assert_eq!(limited.0, 429, "{limited:?}");
        is_over.store(true, Ordering::Release);
    };
    let ((), claims) = tokio::join!(guessing, scene.own_until(&is_over));
    assert!(claims >= 2, "the owner got in {claims} times");
    let warned = "many wrong claim codes";
    eventually_within(Duration::from_secs(5), "operators are told", || async {
        if scene.cloud.log().contains(warned) { Ok(()) } else { Err("not in the log") }
    })
    .await;
    // What it cost nobody: the device is the owner's, who uses it.
    let token = scene.cloud.user_token(&scene.provider.token("alice")).await;
    scene.cloud.user().get("/d/cam-01/web/hello").bearer(&token).send().await.expect(200).await;
}

#[tokio::test]
async fn two_thousand_wrong_codes_are_limited_and_lock_nobody_out() {
    storm(2_000).await;
}

#[tokio::test]
#[ignore = "ten thousand calls; scripts/prove claims"]
async fn proof_ten_thousand_wrong_codes_lock_nobody_out() {
    storm(10_000).await;
}
