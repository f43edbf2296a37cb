//! Death between the arrival of a report and its commit, between the commit and the answer, and at any moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tests::{Cloud, eventually_within};
use tokio::{task::JoinSet, time::sleep};

use super::{Reporter, logged, say, statuses};

#[tokio::test]
async fn killed_before_or_after_the_commit_a_report_without_an_answer_is_kept_once_when_it_comes_again() {
    let mut cloud = Cloud::start().await;
    for (step, kind, is_durable) in [
        ("after-arrived", "telemetry", false),
        ("after-kept", "telemetry", true),
        ("after-kept", "notifications", true),
    ] {
        let reporter = Reporter::enrol(&cloud, &format!("{kind}-{step}")).await;
        assert_eq!(reporter.report(kind, 0..2).await, ["accepted"; 2]);
        cloud.kill();
        cloud.start_again_with(&[("TCPMUX_FAULT_POINT", step)]).await;
        let answer = reporter.call(kind, 2..5).try_send().await;
        // Were the answer sent before the commit, it would be here after the first of the steps.
        assert!(answer.is_err(), "{step}: answered {:?}", answer.map(|answer| answer.status));
        assert_eq!(cloud.process().exit_code(Duration::from_secs(10)).await, 128 + 6, "{step}: it aborted");
        cloud.start_again().await;
        let kept = if is_durable { 0..5 } else { 0..2 };
        assert_eq!(logged(&cloud, &reporter.id).await, kept.collect::<Vec<_>>(), "{step}");
        let expected = if is_durable { "duplicate" } else { "accepted" };
        assert_eq!(reporter.report(kind, 2..5).await, [expected; 3], "{step}");
        assert_eq!(reporter.report(kind, 2..5).await, ["duplicate"; 3], "{step}");
        assert_eq!(reporter.report(kind, 5..6).await, ["accepted"], "{step}");
        assert_eq!(logged(&cloud, &reporter.id).await, (0..6).collect::<Vec<_>>(), "{step}");
    }
}

#[tokio::test]
async fn killed_at_any_moment_under_load_every_answered_item_is_in_the_log_once_and_in_order() {
    kill_under_load(4).await;
}

#[tokio::test]
#[ignore = "takes minutes: scripts/prove intake"]
async fn proof_forty_kills_under_load() {
    kill_under_load(40).await;
}

/// What all reporters share.
#[derive(Default)]
struct Course {
    /// Odd while the cloud is down.
    epoch: AtomicU32,
    is_over: AtomicBool,
    answered: AtomicU64,
    /// Batches that were under way when the cloud was killed, and were in the log after it.
    kept_unanswered: AtomicU64,
    /// And those that were not.
    lost_unanswered: AtomicU64,
}

async fn kill_under_load(kills: u32) {
    let config = "[device_gateway]\ntelemetry_per_second = 1000000\nnotifications_per_minute = 1000000";
    let mut cloud = Cloud::plan().config(config).start().await;
    let course = Arc::new(Course::default());
    let mut reporters = JoinSet::new();
    for number in 0..DEVICES {
        let kind = if number % 3 == 2 { "notifications" } else { "telemetry" };
        let reporter = Reporter::enrol(&cloud, &format!("unit-{number}")).await;
        reporters.spawn(report_all_the_time(reporter, kind, Arc::clone(&course)));
    }
    for _ in 0..kills {
        let before = course.answered.load(Ordering::SeqCst);
        eventually_within(Duration::from_secs(30), "answers after a start", || {
            let now = course.answered.load(Ordering::SeqCst);
            async move { if now > before + DEVICES { Ok(()) } else { Err(now) } }
        })
        .await;
        sleep(up_to(Duration::from_millis(40))).await;
        course.epoch.fetch_add(1, Ordering::SeqCst);
        cloud.kill();
        cloud.start_again().await;
        course.epoch.fetch_add(1, Ordering::SeqCst);
    }
    course.is_over.store(true, Ordering::SeqCst);
    let mut items = 0;
    for (device, answered) in reporters.join_all().await {
        // All that was answered, nothing twice, nothing else, in the order of its device.
        assert_eq!(logged(&cloud, &device).await, (0..answered).collect::<Vec<_>>(), "{device}");
        items += answered;
    }
    let (kept, lost) = (&course.kept_unanswered, &course.lost_unanswered);
    let (kept, lost) = (kept.load(Ordering::SeqCst), lost.load(Ordering::SeqCst));
    say(&format!("{kills} kills, {items} items; under way: {kept} batches durable, {lost} not"));
    // Control: an answer before the commit would have been an answer for these, and none of them was in the log.
    assert!(lost > 0, "no kill fell before a commit");
}

/// One batch after the other, each until it is answered; how many items were.
async fn report_all_the_time(reporter: Reporter, kind: &str, course: Arc<Course>) -> (String, u64) {
    let mut next = 0;
    while !course.is_over.load(Ordering::SeqCst) {
        let batch = next..next + BATCH;
        let mut was_under_way = false;
        loop {
            let epoch = course.epoch.load(Ordering::SeqCst);
            let answer = reporter.call(kind, batch.clone()).try_send().await;
            let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
                was_under_way |= epoch.is_multiple_of(2);
                sleep(up_to(Duration::from_millis(50))).await;
                continue;
            };
            let statuses = match answer.bytes().await {
                Ok(bytes) => statuses(&bytes),
                Err(_) => {
                    was_under_way = true;
                    continue;
                }
            };
            let first = statuses[0].clone();
            assert!(
                statuses.len() as u64 == BATCH && statuses.iter().all(|one| *one == first),
                "{statuses:?}"
            );
            let count = if first == "duplicate" { &course.kept_unanswered } else { &course.lost_unanswered };
            assert!(first == "accepted" || was_under_way, "{first} at once");
            if was_under_way {
                count.fetch_add(1, Ordering::SeqCst);
            }
            course.answered.fetch_add(1, Ordering::SeqCst);
            break;
        }
        next += BATCH;
    }
    (reporter.id, next)
}

fn up_to(most: Duration) -> Duration {
    most.mul_f64(f64::from(u16::from_be_bytes(runtime::random::bytes())) / f64::from(u16::MAX))
}

const DEVICES: u64 = 6;
const BATCH: u64 = 25;
