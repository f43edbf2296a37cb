//! Connections of one device, and decisions about it, that meet.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use model::{DisconnectCause, Fingerprint, NodeId, Timestamp};
use registry::{Admission, Admitted, NotAdmitted, Presented, Registry, RevocationNotice, SessionRecord};
use tcpmux_proto::CloudMessage;
use tcpmux_server::Config;
use tokio::sync::oneshot;

use crate::{
    certificates::DOMAIN,
    support::{Cloud, told, until},
};

/// Admits, and does something else beside when it is asked for the nth time. Each connection asks
/// twice: when it says hello, and when its session takes its place.
struct Scripted {
    asked: AtomicUsize,
    script: Box<Script>,
}

type Script = dyn Fn(usize, &Presented) -> Result<(), NotAdmitted> + Send + Sync;

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Admission for Scripted {
    fn admit(&self, presented: &Presented, _: Timestamp) -> Result<Admitted, NotAdmitted> {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        (self.script)(nth, presented)?;
        Ok(Admitted {
            device: presented.device.clone(),
            fingerprint: presented.fingerprint,
            not_after: presented.not_after,
        })
    }

    fn read(&self, _: Fingerprint) -> oneshot::Receiver<()> {
        oneshot::channel().1
    }
}

fn cloud(
    script: impl Fn(&Registry, usize, &Presented) -> Result<(), NotAdmitted> + Send + Sync + 'static,
) -> Cloud {
    let registry = Registry::in_process(NodeId::from_random([7; 16]), 1);
    let seen = registry.clone();
    let script = Box::new(move |nth, presented: &Presented| script(&seen, nth, presented));
    let admission = Arc::new(Scripted { asked: AtomicUsize::new(0), script });
    Cloud::start_as(
        Config::default(),
        registry,
        admission,
        ca::DeviceNaming::Deployment(DOMAIN.parse().unwrap()),
    )
}

/// The value of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_during_the_connect_does_not_slip_through() {
    let cloud = cloud(|registry, nth, presented| match nth {
        1 => {
            let (registry, device) = (registry.clone(), presented.device.clone());
            let notice = RevocationNotice { sequence: 1, device, certificates: vec![] };
            tokio::runtime::Handle::current()
                .spawn(async move { registry.revoke(notice, Duration::from_secs(3)).await });
            Ok(())
        }
        _ => Err(NotAdmitted::Revoked),
    });
    let camera = cloud.authority.issue("cam-01");
    let mut greeted = cloud.try_connect(&camera, "boot").await.unwrap();
    let CloudMessage::Goodbye(goodbye) = told(&mut greeted).await else { panic!() };
    assert_eq!(goodbye.cause, DisconnectCause::Revoked);
    greeted.handle.closed().await;
    assert_eq!((cloud.server.session_count(), cloud.registry.session_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_overtaken_by_one_that_came_and_went_serves_nobody() {
    let cloud = cloud(|registry, nth, presented| {
        if nth == 2 {
            let newer =
                SessionRecord { boot_id: "newer".into(), ..now(registry.lookup(&presented.device)).unwrap() };
            let generation = now(registry.connect(newer)).generation;
            assert!(now(registry.disconnect(&presented.device, generation)));
        }
        Ok(())
    });
    let camera = cloud.authority.issue("cam-01");
    let mut overtaken = cloud.try_connect(&camera, "boot").await.unwrap();
    let CloudMessage::Replaced(_) = told(&mut overtaken).await else { panic!() };
    overtaken.handle.closed().await;
    assert_eq!((cloud.server.session_count(), cloud.registry.session_count()), (0, 0));
    // The control: the next one is not overtaken.
    cloud.connect(&camera, "boot").await;
    assert_eq!((cloud.server.session_count(), cloud.registry.session_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_fails_late_leaves_no_session_that_only_one_side_knows() {
    let cloud = cloud(|_, nth, _| if nth == 4 { Err(NotAdmitted::Retired) } else { Ok(()) });
    let camera = cloud.authority.issue("cam-01");
    let mut standing = cloud.connect(&camera, "boot").await;
    let newcomer = cloud.try_connect(&camera, "boot").await.unwrap();
    newcomer.handle.closed().await;
    // It took the older one's row before it failed; so the older one has to come again.
    let CloudMessage::Replaced(_) = told(&mut standing).await else { panic!() };
    assert_eq!(cloud.ended(standing.welcome.generation).await, DisconnectCause::Replaced);
    assert_eq!((cloud.server.session_count(), cloud.registry.session_count()), (0, 0));
    cloud.connect(&camera, "boot").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_connections_at_once_the_newest_remains_and_table_and_registry_agree() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let connecting = (0..50).map(|_| {
        let handshake = cloud.device(&camera.der);
        cloud.tasks.spawn(handshake.greet(crate::support::hello("boot"), Duration::from_secs(60)))
    });
    let mut greeted = Vec::new();
    for connecting in connecting.collect::<Vec<_>>() {
        greeted.extend(connecting.await.unwrap().unwrap());
    }
    let newest = greeted.iter().map(|device| device.welcome.generation).max().unwrap();
    until("one session", async || {
        let standing = cloud.registry.lookup(&camera.device).await.map(|record| record.generation);
        cloud.server.session_count() == 1 && standing == Some(newest)
    })
    .await;
    for device in &greeted {
        if device.welcome.generation != newest {
            device.handle.closed().await;
        }
    }
    let newest = greeted.iter_mut().find(|device| device.welcome.generation == newest).unwrap();
    let mut stream = cloud.open(&camera.device, "web").await.unwrap();
    let (accepted, _remote) =
        tokio::join!(stream.accepted(), async { newest.incoming.next().await.unwrap().accept().await });
    assert_eq!(accepted, Ok(()));
}
