//! The daemon against a cloud in this process.

use std::{cell::RefCell, io, sync::Arc, time::Duration};

use model::{DisconnectCause, Level, Timestamp};
use runtime::{Clock, Tasks};
use tcpmux_proto::{CloudMessage, Drain, OpenError, Replaced, StreamHeader, StreamKind, TunnelStream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use crate::{
    Daemon, DaemonConfig, Proxies, ServiceSpec, Services, StateDirectory, StateError, Status,
    fake_cloud::{CloudSession, FakeCloud, issuing},
    key::Key,
    test_pki::{ALWAYS, Pki, Validity},
};

const NOW: Timestamp = Timestamp::from_secs(1_795_303_719); // 2026-11-21
const DAY: Duration = Duration::from_secs(86_400);

/// A device that is enrolled with the cloud.
pub(crate) struct Device {
    pub(crate) config: DaemonConfig,
    pub(crate) clock: Clock,
    tasks: Tasks,
    _temporary: TempDir,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

impl Device {
    pub(crate) fn of(cloud: &FakeCloud, services: &[String]) -> Self {
        Self::with(cloud, services, ALWAYS, Clock::manual(NOW).0)
    }

    fn with(cloud: &FakeCloud, services: &[String], validity: Validity, clock: Clock) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(temporary.path());
        let key = Key::generate();
        let certificate = cloud.pki.device_certificate_valid("cam-01", &key.public_key_info(), validity);
        state.install(&cloud.address, &key, &certificate, &[cloud.pki.root_der()]).unwrap();
        let specs: Vec<_> = services.iter().map(|text| text.parse().unwrap()).collect();
        let services = Services::new(&specs, false, None).unwrap();
        let mut config = DaemonConfig::new(state, services);
        config.time_floor = NOW;
        config.renewal_check = Duration::from_millis(20);
        Self { config, clock, tasks: Tasks::new(), _temporary: temporary }
    }

    pub(crate) async fn start(&self) -> Daemon {
        Daemon::start(self.config.clone(), self.clock.clone(), self.tasks.clone()).await.unwrap()
    }
}

fn open(session: &CloudSession, service: &str, kind: StreamKind, level: Level) -> TunnelStream {
    let header = tcpmux_proto::testing::header(service, kind);
    session.handle.open(StreamHeader { level, ..header }).unwrap()
}

/// A service that sends back what it hears.
async fn echo(tasks: &Tasks) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let all = tasks.clone();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            all.spawn(async move {
                let (mut reader, mut writer) = stream.split();
                drop(tokio::io::copy(&mut reader, &mut writer).await);
            });
        }
    });
    address.to_string()
}

async fn echoed(stream: &mut TunnelStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text);
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it did not happen within 20 s")
}

#[tokio::test]
async fn a_device_connects_and_serves_its_services_and_nothing_else() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let services = [format!("web=http://{}", echo(&tasks).await), format!("dead=http://{free}")];
    let device = Device::of(&cloud, &services);
    let daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let status = soon(daemon.wait_for(|status| status.connected)).await;
    assert_eq!(status.device.unwrap().as_str(), "cam-01");
    let offers = &session.handle.hello().services;
    assert_eq!(offers.iter().map(|offer| offer.name.as_str()).collect::<Vec<_>>(), ["dead", "web"]);
    echoed(&mut open(&session, "web", StreamKind::Http, Level::Viewer), b"hello").await;
    for (service, kind, level, expected) in [
        ("nothing", StreamKind::Http, Level::Owner, OpenError::UnknownService),
        ("dead", StreamKind::Http, Level::Owner, OpenError::Refused),
        ("web", StreamKind::Tcp, Level::Viewer, OpenError::Forbidden),
    ] {
        assert_eq!(soon(open(&session, service, kind, level).accepted()).await, Err(expected));
    }
}

#[tokio::test]
async fn the_cloud_learns_what_a_service_is_called() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let address = echo(&tasks).await;
    let services = [format!("web=http://{address}"), format!("shell=tcp://{address}")];
    let mut device = Device::of(&cloud, &services);
    let specs = services.map(|text| text.parse::<ServiceSpec>().unwrap());
    let named = ServiceSpec { name: "named".into(), host: Some("shop.example".into()), ..specs[0].clone() };
    device.config.services = Services::new(&[&specs[..], &[named]].concat(), false, None).unwrap();
    let _daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let host = |service| {
        let stream = open(&session, service, StreamKind::Http, Level::Owner);
        stream.host().map(|host| (host.authority.to_string(), host.fixed))
    };
    assert_eq!(host("web"), Some((address, false)));
    assert_eq!(host("named"), Some(("shop.example".into(), true)));
    assert_eq!(host("shell"), None);
}

#[tokio::test]
async fn a_server_that_is_not_ours_never_gets_a_byte() {
    let pki = Arc::new(Pki::new());
    let cases: [(&str, Arc<Pki>, &[&str], Validity); 4] = [
        ("other deployment", Arc::new(Pki::new()), &["localhost"], ALWAYS),
        ("wrong name", Arc::clone(&pki), &["other.test"], ALWAYS),
        ("expired", Arc::clone(&pki), &["localhost"], ((2020, 1, 1), (2026, 11, 1))),
        ("right", Arc::clone(&pki), &["localhost"], ALWAYS),
    ];
    for (what, shown, names, validity) in cases {
        let cloud =
            FakeCloud::with(Arc::clone(&pki), &shown, names, validity, issuing(Arc::clone(&pki))).await;
        let device = Device::of(&cloud, &[]);
        let daemon = device.start().await;
        let told = |status: &Status| status.connected || status.last_error.is_some();
        let status = soon(daemon.wait_for(told)).await;
        assert_eq!(status.connected, what == "right", "{what}: {:?}", status.last_error);
        if what != "right" {
            assert!(status.last_error.unwrap().contains("invalid peer certificate"), "{what}");
            assert!(!cloud.has_session().await && cloud.heard().is_empty(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_spaced_more_and_more_and_never_given_up() {
    let cloud = FakeCloud::start().await;
    let mut device = Device::of(&cloud, &[]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    device.config.server = Some(free.to_string().parse().unwrap());
    let daemon = device.start().await;
    let times = RefCell::new(vec![]);
    daemon
        .wait_for(|status| {
            if status.last_error.is_some() {
                times.borrow_mut().push(Instant::now());
            }
            times.borrow().len() == 60
        })
        .await;
    let gaps: Vec<_> = times.borrow().windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (attempt, gap) in gaps.iter().enumerate() {
        let ceiling = Duration::from_secs(1 << attempt.min(6)).min(Duration::from_secs(60));
        assert!(*gap <= ceiling + Duration::from_millis(50), "{gap:?} after attempt {attempt}");
    }
    let late: Duration = gaps[10..].iter().sum();
    assert!(late / 49 > Duration::from_secs(15), "the back-off did not grow: {:?}", late / 49);
}

#[tokio::test]
async fn a_lost_session_is_made_again() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let daemon = device.start().await;
    for _ in 0..3 {
        let session = soon(cloud.next_session()).await;
        soon(daemon.wait_for(|status| status.connected)).await;
        drop(session);
        soon(daemon.wait_for(|status| !status.connected)).await;
    }
}

#[tokio::test]
async fn a_drain_brings_a_new_session_while_old_streams_finish() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let device = Device::of(&cloud, &[format!("web=http://{}", echo(&tasks).await)]);
    let _daemon = device.start().await;
    let mut old = soon(cloud.next_session()).await;
    let mut stream = open(&old, "web", StreamKind::Tcp, Level::Owner);
    echoed(&mut stream, b"before").await;
    let drain = Drain { deadline: Duration::from_secs(60), delay: Duration::ZERO };
    old.control.send(&CloudMessage::Drain(drain)).await.unwrap();
    let new = soon(cloud.next_session()).await;
    echoed(&mut stream, b"after").await;
    echoed(&mut open(&new, "web", StreamKind::Http, Level::Owner), b"elsewhere").await;
    assert!(timeout(Duration::ZERO, old.handle.closed()).await.is_err());
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut vec![]).await.unwrap();
    drop(stream);
    assert_eq!(soon(old.handle.closed()).await, DisconnectCause::Closed);
}

#[tokio::test]
async fn a_session_that_the_cloud_does_not_find_is_made_anew() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let _daemon = device.start().await;
    let mut lost = soon(cloud.next_session()).await;
    let status = tcpmux_proto::Status { registered: false, generation: None };
    lost.control.send(&CloudMessage::Status(status)).await.unwrap();
    soon(cloud.next_session()).await;
    assert_eq!(soon(lost.handle.closed()).await, DisconnectCause::Closed);
}

#[tokio::test]
async fn a_replaced_session_is_not_fought_for() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let daemon = device.start().await;
    let mut session = soon(cloud.next_session()).await;
    soon(daemon.wait_for(|status| status.connected)).await;
    let replaced = CloudMessage::Replaced(Replaced { generation: model::Generation(2) });
    session.control.send(&replaced).await.unwrap();
    let status = soon(daemon.wait_for(|status| status.last_error.is_some())).await;
    assert!(status.last_error.unwrap().contains("replaced"));
    let mut backoff = runtime::Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    for _ in 0..100 {
        let delay = crate::daemon::delay_after(DisconnectCause::Replaced, &mut backoff);
        assert!((30..=60).contains(&delay.as_secs()), "{delay:?}");
        assert!(crate::daemon::delay_after(DisconnectCause::Lost, &mut backoff) <= Duration::from_secs(60));
        backoff.reset();
    }
}

#[tokio::test]
async fn at_two_thirds_of_its_life_the_certificate_is_renewed_and_the_tunnel_uses_the_new_one() {
    let cloud = FakeCloud::start().await;
    let (clock, hand) = Clock::manual(NOW);
    let device = Device::with(&cloud, &[], ((2026, 11, 1), (2027, 1, 30)), clock);
    let daemon = device.start().await;
    let first = soon(cloud.next_session()).await;
    soon(daemon.wait_for(|status| status.connected)).await;
    assert!(cloud.heard().is_empty(), "a renewal before its time");
    hand.advance(DAY * 50);
    let second = soon(cloud.next_session()).await;
    assert_eq!(cloud.lines(), ["POST /.well-known/est/simplereenroll"]);
    assert_eq!(cloud.heard()[0].client, Some(first.client.clone()));
    assert_ne!(second.client, first.client);
    assert_eq!(second.client, device.config.state.identity().unwrap().chain[0]);
    let status = soon(daemon.wait_for(|status| status.connected)).await;
    assert_eq!(status.certificate.fingerprint, crate::certificate::fingerprint(&second.client).to_string());
    assert_eq!(soon(first.handle.closed()).await, DisconnectCause::Closed);
}

#[tokio::test]
async fn a_stream_under_way_holds_the_change_of_certificates() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let (clock, hand) = Clock::manual(NOW);
    let services = [format!("web=http://{}", echo(&tasks).await)];
    let device = Device::with(&cloud, &services, ((2026, 11, 1), (2027, 1, 30)), clock);
    let _daemon = device.start().await;
    let first = soon(cloud.next_session()).await;
    let mut stream = open(&first, "web", StreamKind::Http, Level::Owner);
    echoed(&mut stream, b"before").await;
    hand.advance(DAY * 50);
    let renewed = async {
        while cloud.heard().is_empty() || device.config.state.identity().unwrap().chain[0] == first.client {
            tokio::task::yield_now().await;
        }
    };
    soon(renewed).await;
    echoed(&mut stream, b"after").await;
    assert!(!cloud.has_session().await);
    drop(stream);
    soon(cloud.next_session()).await;
}

#[tokio::test]
async fn a_new_enrolment_is_noticed() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let _daemon = device.start().await;
    let first = soon(cloud.next_session()).await;
    let key = Key::generate();
    let certificate = cloud.pki.device_certificate("cam-01", &key.public_key_info());
    device.config.state.install(&cloud.address, &key, &certificate, &[cloud.pki.root_der()]).unwrap();
    let second = soon(cloud.next_session()).await;
    assert!(second.client != first.client && second.client.as_ref() == certificate);
}

#[tokio::test]
async fn the_way_out_can_lead_through_a_proxy() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let target = format!("127.0.0.1:{}", cloud.address.port());
    let proxying = tasks.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        let mut far = TcpStream::connect(target).await.unwrap();
        near.write_all(b"HTTP/1.1 200 go\r\n\r\n").await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        String::from_utf8(head).unwrap()
    });
    let mut device = Device::of(&cloud, &[]);
    device.config.way_out.proxies = Proxies::through(&format!("http://{proxy}")).unwrap();
    let daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    soon(daemon.wait_for(|status| status.connected)).await;
    drop(session);
    device.tasks.end();
    let head = soon(proxying).await.unwrap().unwrap();
    assert!(head.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", cloud.address)), "{head}");
}

#[tokio::test]
async fn stopping_lets_streams_finish_and_says_goodbye() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let device = Device::of(&cloud, &[format!("web=http://{}", echo(&tasks).await)]);
    let daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let mut stream = open(&session, "web", StreamKind::Tcp, Level::Owner);
    echoed(&mut stream, b"before").await;
    let stopping = daemon.stop(Duration::from_secs(20));
    let using = async {
        echoed(&mut stream, b"during").await;
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut vec![]).await.unwrap();
        drop(stream);
        session.handle.closed().await
    };
    let (finished, cause) = soon(async { tokio::join!(stopping, using) }).await;
    assert!(finished);
    assert_eq!(cause, DisconnectCause::Closed);
}

#[tokio::test]
async fn two_daemons_do_not_share_an_identity_and_none_runs_without() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let _daemon = device.start().await;
    let second = Daemon::start(device.config.clone(), device.clock.clone(), Tasks::new()).await;
    assert!(matches!(second, Err(StateError::InUse(_))));
    let empty = tempfile::tempdir().unwrap();
    let config = DaemonConfig::new(StateDirectory::at(empty.path()), Services::default());
    let none = Daemon::start(config, device.clock.clone(), Tasks::new()).await;
    assert!(matches!(none, Err(StateError::NotEnrolled(_))));
}

#[tokio::test]
async fn a_service_that_resets_is_a_reset_at_the_cloud() {
    let (cloud, tasks) = (FakeCloud::start().await, Tasks::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    });
    let device = Device::of(&cloud, &[format!("web=http://{address}")]);
    let _daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let mut stream = open(&session, "web", StreamKind::Http, Level::Owner);
    stream.write_all(b"G").await.unwrap();
    let error = soon(stream.read_to_end(&mut vec![])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
