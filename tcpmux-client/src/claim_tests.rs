//! The claim code, from the cloud's call to the file, against a cloud in this process.

use std::{fs, time::Duration};

use model::{ClaimCode, DeviceRef, DisconnectCause, RequestId, Target, TenantName};
use tcpmux_proto::{
    BoxFuture, Dialer, OpenError, SessionHandle, StreamHeader, TunnelStream,
    agent::{AgentError, AgentReply, AgentRequest, ask},
};
use tokio::io::AsyncWriteExt;

use crate::{
    ClaimFile, Daemon,
    daemon_tests::{Device, soon},
    fake_cloud::{CloudSession, FakeCloud},
};

struct OneSession(SessionHandle);

impl Dialer for OneSession {
    fn open<'a>(
        &'a self,
        _: &'a Target,
        header: StreamHeader,
    ) -> BoxFuture<'a, Result<TunnelStream, OpenError>> {
        Box::pin(async { self.0.open(header) })
    }
}

async fn call(session: &CloudSession, request: AgentRequest) -> Result<AgentReply, AgentError> {
    let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
    let dialer = OneSession(session.handle.clone());
    soon(ask(&dialer, &device, &request, RequestId::from_random([1; 16]))).await
}

async fn diagnosed(session: &CloudSession) -> tcpmux_proto::agent::Diagnosis {
    match call(session, AgentRequest::Diagnose).await.unwrap() {
        AgentReply::Diagnosis(diagnosis) => diagnosis,
        other => panic!("{other:?}"),
    }
}

async fn claimable(daemon: &Daemon, wanted: bool) {
    soon(daemon.wait_for(|status| status.claimable == wanted)).await;
}

fn code(seed: u8) -> ClaimCode {
    ClaimCode::from_random([seed; 16])
}

#[tokio::test]
async fn a_code_is_shown_told_with_the_next_hello_and_forgotten_when_the_cloud_says_so() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let daemon = device.start().await;
    let file = device.config.claim.clone();
    let session = soon(cloud.next_session()).await;
    assert_eq!(session.handle.hello().claim_digest, None);
    for seed in [1, 2, 2] {
        let reply = call(&session, AgentRequest::ClaimCode { code: code(seed) }).await.unwrap();
        assert_eq!(reply, AgentReply::Done);
        assert_eq!(file.read().unwrap(), Some(code(seed)), "on disk before the answer");
        claimable(&daemon, true).await;
    }
    let told = diagnosed(&session).await.claim_digest.unwrap();
    assert_eq!(told, file.digest().unwrap().0);
    session.handle.close(DisconnectCause::Lost);
    let session = soon(cloud.next_session()).await;
    assert_eq!(session.handle.hello().claim_digest, Some(told));
    for _ in 0..2 {
        assert_eq!(call(&session, AgentRequest::ForgetClaimCode).await.unwrap(), AgentReply::Done);
        assert!(!file.path().exists());
        claimable(&daemon, false).await;
    }
    assert_eq!(diagnosed(&session).await.claim_digest, None);
}

#[tokio::test]
async fn a_code_outlives_the_daemon() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    call(&session, AgentRequest::ClaimCode { code: code(1) }).await.unwrap();
    let told = diagnosed(&session).await.claim_digest;
    daemon.stop(Duration::from_secs(5)).await;
    let mut again = Device::of(&cloud, &[]);
    again.config.claim = ClaimFile::at(device.config.claim.path());
    let daemon = again.start().await;
    claimable(&daemon, true).await;
    assert_eq!(soon(cloud.next_session()).await.handle.hello().claim_digest, told);
}

#[tokio::test]
async fn a_code_that_cannot_be_written_is_refused_and_the_tunnel_stays() {
    let cloud = FakeCloud::start().await;
    let mut device = Device::of(&cloud, &[]);
    let folder = tempfile::tempdir().unwrap();
    device.config.claim = ClaimFile::at(folder.path().join("not-there/claim_code"));
    let daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let reply = call(&session, AgentRequest::ClaimCode { code: code(1) }).await.unwrap();
    let AgentReply::Refused { reason } = reply else { panic!("{reply:?}") };
    assert!(reason.contains("not-there"), "{reason}");
    assert!(!daemon.status().claimable && diagnosed(&session).await.claim_digest.is_none());
    // Once the place is there, it works without a new start.
    fs::create_dir(folder.path().join("not-there")).unwrap();
    let reply = call(&session, AgentRequest::ClaimCode { code: code(1) }).await.unwrap();
    assert_eq!(reply, AgentReply::Done);
}

#[tokio::test]
async fn calls_that_break_the_form_change_nothing_and_harm_nobody() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let _daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    call(&session, AgentRequest::ClaimCode { code: code(1) }).await.unwrap();
    let forget = br#"{"type":"forget_claim_code"}"#;
    let framed = [&(forget.len() as u16).to_be_bytes()[..], forget].concat();
    let hostile = [
        [&[0xff, 0xff][..], &[b'x'; 70_000]].concat(),
        [&framed[..], &framed].concat(),
        framed[..9].to_vec(),
        b"\0\x05hello".to_vec(),
    ];
    for octets in hostile {
        let mut stream = session.handle.open(agent_header()).unwrap();
        // The device may reset before all is written.
        drop(stream.write_all(&octets).await);
        drop(stream.shutdown().await);
        let mut answer = vec![];
        let end = soon(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)).await;
        assert!(end.is_err() && answer.is_empty(), "{end:?} {answer:?}");
    }
    assert_eq!(device.config.claim.read().unwrap(), Some(code(1)));
    // The control: the same request in its form is heeded.
    let mut stream = session.handle.open(agent_header()).unwrap();
    stream.write_all(&framed).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = vec![];
    soon(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)).await.unwrap();
    assert_eq!(&answer[2..], br#"{"type":"done"}"#);
    assert_eq!(device.config.claim.read().unwrap(), None);
}

#[tokio::test]
async fn idle_calls_are_bounded_and_leave_room_when_they_end() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let _daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let mut idle = vec![];
    for _ in 0..8 {
        let mut stream = session.handle.open(agent_header()).unwrap();
        soon(stream.accepted()).await.unwrap();
        idle.push(stream);
    }
    let refused = call(&session, AgentRequest::Diagnose).await;
    assert!(matches!(refused, Err(AgentError::Open(OpenError::Busy))), "{refused:?}");
    drop(idle);
    let mut left = 2000;
    while let Err(error) = call(&session, AgentRequest::Diagnose).await {
        left -= 1;
        assert!(left > 0, "the places never came back: {error}");
    }
}

#[tokio::test]
async fn what_this_daemon_does_not_know_is_refused_in_words() {
    let cloud = FakeCloud::start().await;
    let device = Device::of(&cloud, &[]);
    let _daemon = device.start().await;
    let session = soon(cloud.next_session()).await;
    let reply = call(&session, AgentRequest::Unknown).await.unwrap();
    assert!(matches!(&reply, AgentReply::Refused { reason } if reason.contains("update")), "{reply:?}");
}

fn agent_header() -> StreamHeader {
    StreamHeader {
        kind: tcpmux_proto::StreamKind::Agent,
        service: tcpmux_proto::Destination::Agent,
        deadline: Duration::from_secs(5),
        request_id: RequestId::from_random([1; 16]),
        trace_id: [0; 16],
        client: String::new(),
        principal: [0; 32],
        level: model::Level::Owner,
        assertion: None,
    }
}
