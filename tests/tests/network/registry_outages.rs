//! D32: the shared registry stopped, silent, emptied, read-only. Requests to devices that are connected here do
//! not notice, devices connect, and afterwards the table is whole.

use std::time::Duration;

use tests::{Authority, Cloud, Device, Redis, eventually_within, web};

use super::{neighbour::Neighbour, vitals::metric};

#[tokio::test]
async fn no_outage_of_the_registry_costs_a_request_and_afterwards_it_is_whole() {
    let mut redis = Redis::start().await;
    let cloud = Cloud::plan().flag("--registry").flag(&redis.url()).start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let web = web().await;
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    until_whole(&redis, &cloud).await;
    let traffic = neighbour.ask_all_the_time();

    redis.kill();
    comes_back_meanwhile(&cloud, &mut device).await;
    redis.start_again().await;
    until_whole(&redis, &cloud).await;

    redis.signal("STOP");
    comes_back_meanwhile(&cloud, &mut device).await;
    redis.signal("CONT");
    until_whole(&redis, &cloud).await;

    assert_eq!(redis.ask("FLUSHALL").await, "OK");
    until_whole(&redis, &cloud).await;

    assert_eq!(redis.ask("REPLICAOF 127.0.0.1 1").await, "OK");
    comes_back_meanwhile(&cloud, &mut device).await;
    assert_eq!(redis.ask("REPLICAOF NO ONE").await, "OK");
    until_whole(&redis, &cloud).await;

    traffic.was_undisturbed().await;
    assert!(cloud.log().contains("the shared registry cannot be used"), "an outage is told");
    eventually_within(Duration::from_secs(10), "nothing waits to be told", || async {
        let waiting = metric(&cloud, "tcpmux_registry_messages_waiting").await;
        if waiting == 0.0 { Ok(()) } else { Err(waiting) }
    })
    .await;
}

#[tokio::test]
async fn a_cloud_that_starts_without_its_registry_serves_and_says_so() {
    let mut redis = Redis::start().await;
    redis.kill();
    let cloud = Cloud::plan().flag("--registry").flag(&redis.url()).start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    neighbour.is_served().await;
    let status = cloud.command("status").await;
    assert_eq!(status.code, 8, "{status:?}");
    assert!(status.stdout.contains("Problem  registry: cannot be used"), "{status:?}");
    let doctor = cloud.command("doctor").await;
    assert_eq!(doctor.code, 8, "{doctor:?}");
    assert!(doctor.stdout.lines().any(|line| line.contains("FAIL  registry")), "{doctor:?}");
    redis.start_again().await;
    eventually_within(Duration::from_secs(30), "the registry is used", || async {
        let rows = redis.rows().await;
        if rows.len() == 1 { Ok(()) } else { Err(rows) }
    })
    .await;
    let status = cloud.command("status").await;
    assert_eq!(status.code, 0, "{status:?}");
    assert!(status.stdout.contains("1 sessions here  1 on all 1 nodes"), "{status:?}");
}

#[tokio::test]
async fn an_encrypted_registry_is_used_if_its_certificate_is_believed_and_else_said_to_be_wrong() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let redis = Redis::start_encrypted(&authority).await;
    let cloud =
        |config: String| Cloud::plan().config(&format!("registry = \"{}\"\n{config}", redis.url())).start();
    let trusting = |ca: &Authority| format!("registry_ca = {:?}\n", ca.root().display().to_string());
    let believing = cloud(trusting(&authority)).await;
    let _neighbour = Neighbour::move_in(&believing).await;
    assert_eq!(redis.rows().await, ["default/neighbour"]);
    drop(believing);

    for config in [trusting(&stranger), String::new()] {
        let doubting = cloud(config.clone()).await;
        let status = doubting.command("status").await;
        assert_eq!(status.code, 8, "{config}: {status:?}");
        for words in ["registry: cannot be used", "certificate is not believed", "registry_ca"] {
            assert!(status.stdout.contains(words), "{config}: {words}: {status:?}");
        }
        let neighbour = Neighbour::move_in(&doubting).await;
        neighbour.is_served().await;
    }
}

#[tokio::test]
async fn a_cloud_that_leaves_takes_its_rows_along() {
    let redis = Redis::start().await;
    let mut cloud = Cloud::plan().flag("--registry").flag(&redis.url()).start().await;
    let _neighbour = Neighbour::move_in(&cloud).await;
    assert_eq!(redis.rows().await.len(), 1);
    assert_eq!(cloud.stop().await, 0);
    assert_eq!(redis.rows().await, Vec::<String>::new());
    assert_eq!(redis.ask("ZCARD tcpmux:nodes").await, "0");
}

/// While the registry is away the outage is shown, the process is ready, and a device that was killed connects
/// again.
async fn comes_back_meanwhile(cloud: &Cloud, device: &mut Device) {
    eventually_within(Duration::from_secs(10), "the outage is shown", || async {
        let up = metric(cloud, "tcpmux_registry_up").await;
        if up == 0.0 { Ok(()) } else { Err(up) }
    })
    .await;
    let ready = cloud.admin().get("/readyz").send().await.expect(200).await.json().await;
    let said = ready["checks"]["registry"].as_str().unwrap_or_default();
    assert!(said.starts_with("cannot be used") && ready["ready"] == true, "{ready}");
    device.kill();
    cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    device.start_again();
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
}

/// The registry has the two devices and no other, within 30 s, and the cloud says that it can be used.
async fn until_whole(redis: &Redis, cloud: &Cloud) {
    eventually_within(Duration::from_secs(30), "the table is whole", || async {
        let (rows, up) = (redis.rows().await, metric(cloud, "tcpmux_registry_up").await);
        let is_whole = rows.len() == 2 && rows.contains(&"default/cam-01".to_owned());
        if is_whole && up == 1.0 { Ok(()) } else { Err((rows, up)) }
    })
    .await;
    let ready = cloud.admin().get("/readyz").send().await.expect(200).await.json().await;
    assert_eq!((&ready["checks"]["registry"], &ready["live"]["nodes"]), (&"ok".into(), &1.into()), "{ready}");
    for row in redis.rows().await {
        let id = row.trim_start_matches("default/");
        let generation = redis.ask(&format!("HGET tcpmux:session:{row} generation")).await;
        assert_eq!(cloud.device_record(id).await["generation"].to_string(), generation, "{row}");
    }
}
