//! Rows 43 to 51: what is done to a passcode by those who have none, a wrong one, or somebody else's.

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, future::join_all, stream};
use tests::{Answer, Cloud, Door};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{
    applicant::{Applicant, certificates_of, fingerprint, refusal, registry},
    kept::Kept,
};

/// An answer with all its fields, but for the time of day.
async fn octets(answer: Answer) -> String {
    let mut head = format!("{:?}", answer.status);
    for (name, value) in answer.headers.iter().filter(|(name, _)| *name != "date") {
        head += &format!("\n{name}: {value:?}");
    }
    format!("{head}\n\n{}", answer.text().await)
}

/// Row 43.
#[tokio::test]
async fn passcodes_that_do_not_serve_are_answered_alike_and_as_quickly() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let used = cloud.passcode("used").await;
    Applicant::new().enrolment(&door, "used", &used).send().await.expect(200).await;
    let made = serde_json::json!({"device": "late", "ttl": "1s"});
    let made = cloud.administer(http::Method::POST, "/admin/api/otp", made).await;
    let expired = made["otp"].as_str().unwrap();
    let taken_back = cloud.administer(http::Method::POST, "/admin/api/otp", serde_json::json!({})).await;
    let path = format!("/admin/api/otps/{}", taken_back["id"].as_str().unwrap());
    cloud.admin().call(http::Method::DELETE, &path).admin(cloud.key()).send().await.expect(204).await;
    let taken_back = taken_back["otp"].as_str().unwrap();
    let unknown = model::Passcode::from_random([9; 20]).reveal();
    let typo = format!("{}{}", if unknown.starts_with('2') { '3' } else { '2' }, &unknown[1..]);
    let device = Applicant::new();
    tests::eventually("the passcode expires", || async {
        let listed = cloud.administer(http::Method::GET, "/admin/api/otps", serde_json::Value::Null).await;
        let row = listed["items"].as_array().unwrap().iter().find(|row| row["id"] == made["id"]).cloned();
        if row.as_ref().is_some_and(|row| row["status"] == "expired") { Ok(()) } else { Err(row) }
    })
    .await;
    let mut answers = vec![];
    for passcode in [&*used, expired, taken_back, &unknown, &typo, "", "short", "pässwörd", &"x".repeat(700)]
    {
        answers.push(octets(device.enrolment(&door, "cam-01", passcode).send().await).await);
    }
    answers.push(octets(device.enrolment(&door, "cam-01", &unknown).body("junk").send().await).await);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(
        answers[0].contains("401") && answers[0].contains("www-authenticate: \"Basic realm=\\\"est\\\"\"")
    );

    // Time tells no more than the octets do: measured on connections that stand, one passcode after the other.
    let mut times = [vec![], vec![]];
    let requests = [&used, &unknown].map(|passcode| redemption(passcode, &device.body()));
    for place in 1..=3 {
        let mut connection = Kept::open(&door.from_source([127, 0, 1, place].into())).await;
        for round in 0..120 {
            let which = round % 2;
            let began = Instant::now();
            assert_eq!(connection.exchange(&requests[which]).await, "401");
            times[which].push(began.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    assert!(
        (0.7..1.4).contains(&(known / unknown)),
        "medians: a used one {known} s, an unknown one {unknown} s"
    );
}

/// Row 46 with the control of row 47, over connections that all stand before the first request is sent.
#[tokio::test]
async fn of_two_hundred_keys_at_once_one_gets_the_certificate_and_of_one_key_all_get_the_same() {
    let cloud = Cloud::start().await;
    let passcode = cloud.passcode("cam-01").await;
    let applicants: Vec<Applicant> = (0..200).map(|_| Applicant::new()).collect();
    let bodies: Vec<String> = applicants.iter().map(Applicant::body).collect();
    let answers = at_once(&cloud.device(), &passcode, bodies).await;
    let issued: Vec<&(String, String)> = answers.iter().filter(|(status, _)| status == "200").collect();
    let refused = answers.iter().filter(|(status, _)| status == "401").count();
    assert_eq!((issued.len(), refused), (1, 199));
    let rows = certificates_of(&cloud, "cam-01").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["fingerprint"], fingerprint(&issued[0].1));

    let passcode = cloud.passcode("cam-02").await;
    let body = Applicant::new().body();
    let mut answers = at_once(&cloud.device(), &passcode, vec![body; 200]).await;
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, "200");
    let rows = certificates_of(&cloud, "cam-02").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["fingerprint"], fingerprint(&answers[0].1));
}

/// Sends all bodies with one passcode in the same moment; status and body of each answer.
async fn at_once(door: &Door, passcode: &str, bodies: Vec<String>) -> Vec<(String, String)> {
    let standing: Vec<_> = stream::iter(&bodies).map(|_| door.connect()).buffered(16).collect().await;
    let calls = standing.into_iter().zip(bodies).map(|(mut connection, body)| {
        let request = redemption(passcode, &body).replace("\r\nHost:", "\r\nConnection: close\r\nHost:");
        async move {
            connection.write_all(request.as_bytes()).await.unwrap();
            connection.flush().await.unwrap();
            let mut said = String::new();
            let _ = connection.read_to_string(&mut said).await;
            let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said}"));
            (head[9..12].to_owned(), body.to_owned())
        }
    });
    join_all(calls).await
}

/// A first enrolment as bytes.
fn redemption(passcode: &str, body: &str) -> String {
    format!(
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\n\
         Accept: application/x-pem-file\r\nContent-Type: application/pkcs10\r\nContent-Length: {}\r\n\r\n{body}",
        BASE64_STANDARD.encode(format!(":{passcode}")),
        body.len()
    )
}

/// Rows 44 and 45, and the operator's view of them.
#[tokio::test]
async fn a_lost_answer_is_given_again_to_its_key_and_to_no_other() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let (owner, thief, passcode) = (Applicant::new(), Applicant::new(), cloud.passcode("cam-01").await);
    let first = owner.enrolment(&door, "cam-01", &passcode).send().await.expect(200).await.text().await;
    assert_eq!(
        refusal(thief.enrolment(&door, "cam-01", &passcode).send().await).await,
        "401 passcode-invalid"
    );
    let again = owner.enrolment(&door, "", &passcode).send().await.expect(200).await.text().await;
    assert_eq!(first, again);
    let audit =
        cloud.administer(http::Method::GET, "/admin/api/audit?limit=100", serde_json::Value::Null).await;
    let outcome =
        |word: &str| audit["items"].as_array().unwrap().iter().filter(|row| row["outcome"] == word).count();
    assert_eq!(outcome("otp-replay"), 1, "{audit}");
    assert!(!audit.to_string().contains(&passcode), "{audit}");
    // Used once, it is spent: also for its own key.
    let shown = door.showing(&owner.identity(&first));
    owner.renewal(&shown).send().await.expect(200).await;
    assert_eq!(refusal(owner.enrolment(&door, "", &passcode).send().await).await, "401 passcode-invalid");
}

/// Rows 48 and 49.
#[tokio::test]
async fn who_guesses_has_to_wait_and_nobody_else_has() {
    let cloud = Cloud::start().await;
    let passcode = cloud.passcode("cam-01").await;
    let attacker = cloud.device().from_source([127, 0, 0, 66].into());
    let guess = Applicant::new();
    let statuses: Vec<u16> = stream::iter(0..400)
        .map(|_| async { guess.enrolment(&attacker, "cam-01", "wrong").send().await.status.as_u16() })
        .buffer_unordered(16)
        .collect()
        .await;
    let refused = statuses.iter().filter(|status| **status == 401).count();
    assert!((290..=340).contains(&refused), "{refused} guesses were answered");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 400 - refused);
    let told = guess.enrolment(&attacker, "cam-01", "wrong").send().await;
    assert!(told.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refusal(told).await, "429 too-many-attempts");
    // The device whose name was used, from elsewhere; and a right passcode even from the same place.
    Applicant::new().enrolment(&cloud.device(), "cam-01", &passcode).send().await.expect(200).await;
    let neighbour = cloud.passcode("cam-02").await;
    let device = Applicant::new();
    let certificate =
        device.enrolment(&attacker, "cam-02", &neighbour).send().await.expect(200).await.text().await;
    device.renewal(&attacker.showing(&device.identity(&certificate))).send().await.expect(200).await;
    // A factory's successes are never too many.
    let made: Vec<String> = stream::iter(0..120)
        .map(|n| {
            let cloud = &cloud;
            async move { cloud.passcode(&format!("unit-{n}")).await }
        })
        .buffered(8)
        .collect()
        .await;
    let all: Vec<u16> = stream::iter(made)
        .map(|passcode| {
            let door = cloud.device();
            async move { Applicant::new().enrolment(&door, "", &passcode).send().await.status.as_u16() }
        })
        .buffer_unordered(8)
        .collect()
        .await;
    assert!(all.iter().all(|status| *status == 200), "{all:?}");
}

/// Row 50, and that none of it is written down anywhere.
#[tokio::test]
async fn a_passcode_in_the_wrong_place_is_no_passcode_and_is_never_logged() {
    let mut cloud = Cloud::plan().log_level("trace").start().await;
    let door = cloud.device();
    let (device, passcode) = (Applicant::new(), cloud.passcode("cam-01").await);
    let basic = BASE64_STANDARD.encode(format!("cam-01:{passcode}"));
    let path = format!("/.well-known/est/simpleenroll?otp={passcode}&password={passcode}");
    let call = |path: &str| door.post(path).header("content-type", "application/pkcs10").body(device.body());
    let plain = || call("/.well-known/est/simpleenroll");
    let with = |value: String| plain().header("authorization", value);
    for (call, answer) in [
        (call(&path), "401 passcode-required"),
        (plain().header("cookie", format!("otp={passcode}")), "401 passcode-required"),
        (plain().header("x-passcode", &passcode), "401 passcode-required"),
        (with(format!("Bearer {passcode}")), "401 passcode-required"),
        (with(format!("PROV-ADMIN {passcode}")), "401 passcode-required"),
        (with(format!("Digest username=\"cam-01\", response=\"{passcode}\"")), "401 passcode-required"),
        (with("Basic".into()), "400 authorization"),
        (with(passcode.clone()), "400 authorization"),
        (with("Basic !!!".into()), "400 authorization"),
        (with(format!("Basic {}", BASE64_STANDARD.encode(&passcode))), "400 authorization"),
        (with(format!("Basic {}", BASE64_STANDARD.encode(b"cam-01:\xff\xfe"))), "400 authorization"),
        (with(format!("Basic {}", BASE64_STANDARD.encode("a".repeat(2000) + ":b"))), "400 authorization"),
        (
            with(format!("Basic {}", BASE64_STANDARD.encode(format!("cam-01:{passcode}:")))),
            "401 passcode-invalid",
        ),
        (
            with(format!("Basic {}", BASE64_STANDARD.encode(format!("cam-01::{passcode}")))),
            "401 passcode-invalid",
        ),
    ] {
        assert_eq!(refusal(call.send().await).await, answer);
    }
    let huge = format!(
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\n\r\n",
        "A".repeat(1 << 20)
    );
    let said = door.exchange(huge).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said:.80}");
    // Nothing of this used it up. The scheme is the same in any case.
    with(format!("bAsIc {basic}")).send().await.expect(200).await;
    assert_eq!(certificates_of(&cloud, "cam-01").await.len(), 1);
    assert_eq!(cloud.stop().await, 0);
    let log = cloud.log();
    assert!(
        log.contains("certificate issued") && log.contains("\"level\":\"DEBUG\""),
        "control: the log is kept"
    );
    for secret in [&passcode, &basic, cloud.key(), &passcode.to_lowercase()] {
        assert!(!log.contains(secret), "a secret is in the log");
        for entry in std::fs::read_dir(cloud.data()).unwrap() {
            let path = entry.unwrap().path();
            let is_key = path.file_name().is_some_and(|name| name == "admin.key");
            let content = if path.is_file() && !is_key { std::fs::read(&path).unwrap() } else { vec![] };
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret is in {}", path.display());
        }
    }
}

/// Row 51: what people do when they type.
#[tokio::test]
async fn a_typed_passcode_serves_and_a_slip_of_the_finger_costs_no_attempt() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let (device, passcode) = (Applicant::new(), cloud.passcode("cam-01").await);
    let typed = passcode.to_lowercase().replace('0', "o").replace('1', "i");
    let typed = format!(" {}-{} {} ", &typed[..4], &typed[4..20], &typed[20..]);
    let mut slips = 0;
    for at in [0, 7, 15, 31] {
        let mut wrong = passcode.clone().into_bytes();
        wrong[at] = if wrong[at] == b'7' { b'8' } else { b'7' };
        let wrong = String::from_utf8(wrong).unwrap();
        assert!(wrong.parse::<model::Passcode>().is_err(), "the check character tells");
        assert_eq!(device.enrolment(&door, "", &wrong).send().await.status, 401);
        slips += 1;
    }
    // More slips than the passcode has attempts for requests that are refused.
    assert!(slips + 2 > 5);
    for _ in 0..2 {
        assert_eq!(device.enrolment(&door, "", &passcode[..30]).send().await.status, 401);
    }
    device.enrolment(&door, "", &typed).send().await.expect(200).await;
    assert_eq!(registry(&cloud).await.len(), 1);
}
