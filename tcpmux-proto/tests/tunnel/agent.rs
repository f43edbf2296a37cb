//! Calls to the daemon itself: whole ones, and those of peers that do not keep to the form.

use std::time::Duration;

use model::{ClaimCode, DeviceRef, RequestId, Secret, Target, TenantName, Timestamp};
use tcpmux_proto::{
    BoxFuture, Dialer, IncomingStream, OpenError, SessionHandle, StreamHeader, StreamKind, TunnelStream,
    agent::{self, AgentError, AgentReply, AgentRequest, CALL_LIMIT, Diagnosis, MAX_CALL},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::{Tunnel, header};

/// Opens streams on the one session there is.
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

fn device() -> DeviceRef {
    DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap())
}

async fn ask(tunnel: &Tunnel, request: &AgentRequest) -> Result<AgentReply, AgentError> {
    let dialer = OneSession(tunnel.pair.cloud.clone());
    agent::ask(&dialer, &device(), request, RequestId::from_random([5; 16])).await
}

/// Asks, while the device does with the stream what a test wants.
async fn asked<F: Future>(
    request: &AgentRequest,
    device: impl FnOnce(IncomingStream) -> F,
) -> (Result<AgentReply, AgentError>, F::Output) {
    let mut tunnel = Tunnel::new().await;
    let cloud = OneSession(tunnel.pair.cloud.clone());
    let call = async {
        let device = crate::agent::device();
        agent::ask(&cloud, &device, request, RequestId::from_random([5; 16])).await
    };
    let served = async {
        let stream = tunnel.pair.device.incoming.next().await.unwrap();
        device(stream).await
    };
    tokio::join!(call, served)
}

/// What the device makes of a caller that writes these octets and then ends its half, or waits.
async fn heard(octets: &[u8], ends: bool) -> (Result<(), AgentError>, Vec<AgentRequest>) {
    let mut tunnel = Tunnel::new().await;
    let mut stream = tunnel.pair.cloud.open(header(StreamKind::Agent)).unwrap();
    stream.write_all(octets).await.unwrap();
    if ends {
        stream.shutdown().await.unwrap();
    }
    let incoming = tunnel.pair.device.incoming.next().await.unwrap();
    let mut handled = vec![];
    let outcome = agent::answer(incoming, async |request| {
        handled.push(request);
        AgentReply::Done
    })
    .await;
    if outcome.is_err() {
        let told = stream.read(&mut [0; 8]).await;
        assert!(told.is_err(), "the caller is told by a reset, not by an end: {told:?}");
    }
    (outcome, handled)
}

fn framed(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

#[tokio::test]
async fn every_request_arrives_as_it_was_said_and_so_does_every_reply() {
    let code = ClaimCode::from_random([3; 16]);
    let token = || Secret::new("a.b.c".to_owned());
    let (expires_at, gateway) = (Timestamp(77), "https://cloud:7443".to_owned());
    let diagnosis = Diagnosis {
        agent_version: "1.2".into(),
        uptime_s: 3,
        claim_digest: Some([4; 32]),
        clock_plausible: true,
    };
    let calls = [
        (AgentRequest::ClaimCode { code: code.clone() }, AgentReply::Done),
        (AgentRequest::ForgetClaimCode, AgentReply::refused("the disk is full")),
        (
            AgentRequest::DeviceToken { token: token(), expires_at, gateway: gateway.clone() },
            AgentReply::Done,
        ),
        (AgentRequest::Diagnose, AgentReply::Diagnosis(diagnosis)),
    ];
    for (request, reply) in calls {
        let said = reply.clone();
        let (got, heard) = asked(&request, async |stream| {
            assert_eq!(stream.header.kind, StreamKind::Agent);
            let mut heard = None;
            let answered = agent::answer(stream, async |request| {
                heard = Some(request);
                said
            });
            answered.await.unwrap();
            heard.unwrap()
        })
        .await;
        assert_eq!(got.unwrap(), reply);
        assert_eq!(heard.name(), request.name());
        match heard {
            AgentRequest::ClaimCode { code: heard } => assert_eq!(heard, code),
            AgentRequest::DeviceToken { token: heard, expires_at: end, gateway: at } => {
                assert_eq!((heard.expose(), end, at), (token().expose(), expires_at, gateway.clone()));
            }
            _ => {}
        }
    }
}

#[test]
fn calls_look_on_the_wire_as_they_are_written_down() {
    let code = ClaimCode::from_random([0; 16]);
    let token = AgentRequest::DeviceToken {
        token: Secret::new("a.b.c".into()),
        expires_at: Timestamp(1_795_303_719_000),
        gateway: "https://cloud.example.com:7443".into(),
    };
    for (request, text) in [
        (AgentRequest::ClaimCode { code }, r#"{"type":"claim_code","code":"BBBB-BBBB-BBBB-BBBB-BBBB"}"#),
        (AgentRequest::ForgetClaimCode, r#"{"type":"forget_claim_code"}"#),
        (
            token,
            r#"{"type":"device_token","token":"a.b.c","expires_at":1795303719000,"gateway":"https://cloud.example.com:7443"}"#,
        ),
        (AgentRequest::Diagnose, r#"{"type":"diagnose"}"#),
    ] {
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }
    for (reply, text) in [
        (AgentReply::Done, r#"{"type":"done"}"#.to_owned()),
        (AgentReply::refused("no"), r#"{"type":"refused","reason":"no"}"#.to_owned()),
        (
            AgentReply::Diagnosis(Diagnosis { claim_digest: Some([10; 32]), ..Diagnosis::default() }),
            format!(
                r#"{{"type":"diagnosis","agent_version":"","uptime_s":0,"claim_digest":"{}","clock_plausible":false}}"#,
                "0a".repeat(32)
            ),
        ),
    ] {
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
    }
}

#[test]
fn no_secret_of_a_call_is_printed() {
    let code = ClaimCode::from_random([3; 16]);
    let token = Secret::new("tokentext".to_owned());
    let requests = [
        AgentRequest::ClaimCode { code: code.clone() },
        AgentRequest::DeviceToken { token, expires_at: Timestamp(0), gateway: String::new() },
    ];
    let shown = format!("{requests:?}");
    assert!(!shown.contains("tokentext") && !shown.contains(&code.reveal().expose()[..4]), "{shown}");
}

#[tokio::test]
async fn what_a_newer_cloud_asks_is_handled_as_unknown() {
    let (outcome, handled) = heard(&framed(br#"{"type":"reboot","when":"now"}"#), true).await;
    outcome.unwrap();
    assert!(matches!(handled[..], [AgentRequest::Unknown]));
    // Members of a newer cloud do not disturb either.
    let (outcome, handled) = heard(&framed(br#"{"type":"diagnose","depth":3}"#), true).await;
    outcome.unwrap();
    assert!(matches!(handled[..], [AgentRequest::Diagnose]));
}

#[tokio::test]
async fn a_request_that_breaks_the_form_is_not_handled() {
    let whole = framed(br#"{"type":"diagnose"}"#);
    let too_long = [&(MAX_CALL as u16 + 1).to_be_bytes()[..], &vec![b' '; MAX_CALL + 1]].concat();
    let twice = [whole.clone(), whole.clone()].concat();
    for (what, octets) in [
        ("nothing", vec![]),
        ("half a length", vec![0]),
        ("no text", vec![0, 0]),
        ("less than it says", whole[..10].to_vec()),
        ("more than allowed", too_long),
        ("no JSON", framed(b"\xff\xfe garbage")),
        ("no object", framed(b"[1,2,3]")),
        ("no type", framed(b"{}")),
        (
            "a code with a typing mistake",
            framed(br#"{"type":"claim_code","code":"BBBB-BBBB-BBBB-BBBB-BBBC"}"#),
        ),
        ("two requests", twice),
        ("one octet more", [&whole[..], b"x"].concat()),
    ] {
        let (outcome, handled) = heard(&octets, true).await;
        assert!(outcome.is_err() && handled.is_empty(), "{what}: {outcome:?}");
    }
    // The control: the same in its form is handled.
    let (outcome, handled) = heard(&whole, true).await;
    assert!(outcome.is_ok() && handled.len() == 1, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_finishes_is_let_go_after_the_limit() {
    for octets in [vec![0], vec![0, 50, b'{'], framed(br#"{"type":"diagnose"}"#)] {
        let begun = Instant::now();
        let (outcome, handled) = heard(&octets, false).await;
        assert!(matches!(outcome, Err(AgentError::TimedOut)), "{outcome:?}");
        assert!(handled.is_empty() && begun.elapsed() < CALL_LIMIT + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_costs_the_limit_and_no_more() {
    let begun = Instant::now();
    let (outcome, _) = asked(&AgentRequest::Diagnose, async |stream| {
        let stream = stream.accept().await;
        tokio::time::sleep(CALL_LIMIT * 3).await;
        drop(stream);
    })
    .await;
    assert!(matches!(outcome, Err(AgentError::TimedOut)), "{outcome:?}");
    assert!(begun.elapsed() <= CALL_LIMIT * 3 + Duration::from_secs(1));
    // Without a word of acceptance it is over sooner.
    let (outcome, _) = asked(&AgentRequest::Diagnose, async |stream| {
        tokio::time::sleep(CALL_LIMIT * 3).await;
        drop(stream);
    })
    .await;
    assert!(matches!(outcome, Err(AgentError::Open(OpenError::TimedOut))), "{outcome:?}");
}

#[tokio::test]
async fn a_daemon_that_breaks_the_form_is_an_error() {
    let reply = framed(br#"{"type":"done"}"#);
    for (what, octets) in [
        ("nothing", vec![]),
        ("too much", [0xff, 0xff].to_vec()),
        ("garbage", framed(b"done")),
        ("two replies", [reply.clone(), reply.clone()].concat()),
    ] {
        let (outcome, ()) = asked(&AgentRequest::Diagnose, async |stream| {
            let mut stream = stream.accept().await;
            stream.write_all(&octets).await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream.read_to_end(&mut vec![]).await);
        })
        .await;
        assert!(outcome.is_err(), "{what}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_refusal_and_an_end_of_the_tunnel_are_told_apart() {
    for error in [OpenError::UnknownService, OpenError::Busy, OpenError::Forbidden] {
        let (outcome, ()) = asked(&AgentRequest::Diagnose, async |stream| stream.reject(error)).await;
        assert!(matches!(outcome, Err(AgentError::Open(said)) if said == error), "{outcome:?}");
    }
    let mut tunnel = Tunnel::new().await;
    tunnel.kill().await;
    let outcome = ask(&tunnel, &AgentRequest::Diagnose).await;
    assert!(matches!(outcome, Err(AgentError::Open(OpenError::Lost))), "{outcome:?}");
}

#[tokio::test]
async fn a_request_too_long_is_not_even_sent() {
    let tunnel = Tunnel::new().await;
    let token = Secret::new("x".repeat(MAX_CALL));
    let request = AgentRequest::DeviceToken { token, expires_at: Timestamp(0), gateway: String::new() };
    let outcome = ask(&tunnel, &request).await;
    assert!(matches!(outcome, Err(AgentError::Length(_))), "{outcome:?}");
}
