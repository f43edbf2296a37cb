//! Tickets in the place of tokens, for WebSockets.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use futures_util::{SinkExt, StreamExt, future::join_all};
use http::{Request, header::AUTHORIZATION};
use model::{Level, ServiceSet, TenantName, Ticket, TicketDigest, TicketPurpose, TicketRecord};
use registry::GrantChange;
use tcpmux_proto::TunnelStream;
use tokio::sync::mpsc;
use tokio_tungstenite::{
    accept_hdr_async, client_async,
    tungstenite::{Message, handshake::server},
};

use crate::{
    device::Device,
    house::{HOST, House, NOW, refusal, user},
};

/// A device that tells which target it was asked for, and echoes.
fn device(told: mpsc::UnboundedSender<String>) -> Device {
    let service = move |stream: TunnelStream| {
        let told = told.clone();
        async move {
            #[expect(clippy::result_large_err, reason = "the type is the library's")]
            let note = |request: &server::Request, response| {
                let _ = told.send(format!("{} {:?}", request.uri(), request.headers()));
                Ok(response)
            };
            let mut socket = accept_hdr_async(stream, note).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    break;
                }
            }
        }
    };
    Device::new().raw("web", service.clone()).raw("api", service)
}

/// A ticket for the service `web` of `cam`, changed as wished.
async fn ticket(house: &House, number: u8, change: impl FnOnce(&mut TicketRecord)) -> String {
    let ticket = Ticket::from_random([number; 32]);
    let mut record = TicketRecord {
        tenant: TenantName::default(),
        user: user(),
        device: Some("cam".parse().unwrap()),
        only: None,
        service: Some("web".parse().unwrap()),
        level: Some(Level::Operator),
        services: ServiceSet::only(["web".parse().unwrap()]),
        grant_sequence: 7,
        until: NOW.plus(Duration::from_secs(3600)),
        expires_at: NOW.plus(Duration::from_secs(60)),
        purpose: TicketPurpose::Service,
    };
    change(&mut record);
    let bytes = digest(&SHA256, ticket.secret_bytes());
    let digest = TicketDigest(bytes.as_ref().try_into().unwrap());
    house.registry.put_ticket(digest, record, NOW).await.unwrap();
    ticket.reveal()
}

fn upgrade(target: &str) -> http::request::Builder {
    Request::get(target)
        .header("host", HOST)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

async fn answered(house: &House, request: http::request::Builder) -> u16 {
    house.send(request.body(Body::empty()).unwrap()).await.status().as_u16()
}

#[tokio::test]
async fn a_ticket_opens_one_websocket_and_the_device_never_sees_it() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let house = House::with(device(told)).await;
    let ticket = ticket(&house, 1, |_| ()).await;
    let address = format!("wss://{HOST}/d/cam/web/live/%2F?a=1&ticket={ticket}&b=%00&ticket=mine");
    let (mut socket, _) = client_async(address.as_str(), house.connection(b"http/1.1")).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    let seen = heard.recv().await.unwrap();
    assert!(seen.starts_with("/live/%2F?a=1&b=%00&ticket=mine "), "{seen}");
    assert!(!seen.contains(&ticket), "{seen}");
    let again =
        house.send(upgrade(&format!("/d/cam/web/?ticket={ticket}")).body(Body::empty()).unwrap()).await;
    assert_eq!(refusal(again).await, (401, "TMX-4004".into()), "once");
}

#[tokio::test]
async fn a_ticket_opens_a_raw_stream_too() {
    let (told, _heard) = mpsc::unbounded_channel();
    let house = House::with(device(told)).await;
    let ticket = ticket(&house, 1, |_| ()).await;
    let request = || {
        upgrade(&format!("/v1/devices/cam/streams/web?ticket={ticket}"))
            .header("sec-websocket-protocol", cloud_proxy::SUBPROTOCOL)
    };
    assert_eq!(answered(&house, request()).await, 101);
    assert_eq!(answered(&house, request()).await, 401);
}

#[tokio::test]
async fn a_ticket_at_another_place_is_refused_and_used_up() {
    let (told, _heard) = mpsc::unbounded_channel();
    let house = House::with(device(told)).await;
    for (number, target, status) in
        [(1, "/d/cam/api/", 403), (2, "/d/cam-02/web/", 403), (3, "/v1/devices/cam/streams/api", 403)]
    {
        let ticket = ticket(&house, number, |_| ()).await;
        let there = upgrade(&format!("{target}?ticket={ticket}"))
            .header("sec-websocket-protocol", cloud_proxy::SUBPROTOCOL);
        assert_eq!(answered(&house, there).await, status, "{target}");
        let here = upgrade(&format!("/d/cam/web/?ticket={ticket}"));
        assert_eq!(answered(&house, here).await, 401, "{target}: used up");
    }
    // The control: shown where it was made for, it opens.
    let ticket = ticket(&house, 4, |_| ()).await;
    assert_eq!(answered(&house, upgrade(&format!("/d/cam/web/?ticket={ticket}"))).await, 101);
}

#[tokio::test]
async fn what_is_no_good_ticket_opens_nothing() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let house = House::with(device(told)).await;
    let opened =
        async |ticket: &str| answered(&house, upgrade(&format!("/d/cam/web/?ticket={ticket}"))).await;
    assert_eq!(opened("").await, 401);
    assert_eq!(opened("00").await, 401);
    assert_eq!(opened(&"0".repeat(64)).await, 401, "unknown");
    let topics = ticket(&house, 1, |record| record.purpose = TicketPurpose::Topics).await;
    assert_eq!(opened(&topics).await, 403);
    let other_tenant = ticket(&house, 2, |record| record.tenant = "acme".parse().unwrap()).await;
    assert!([403, 503].contains(&opened(&other_tenant).await), "another tenant's device is not there");
    let stale = ticket(&house, 3, |_| ()).await;
    let fresh = ticket(&house, 4, |record| record.grant_sequence = 8).await;
    house.registry.grants().put(GrantChange {
        tenant: TenantName::default(),
        user: Some(user()),
        device: "cam".parse().unwrap(),
        sequence: 8,
        at: NOW,
    });
    assert_eq!(opened(&stale).await, 403, "the rights changed after it was made");
    assert!(heard.try_recv().is_err(), "the device heard of none");
    assert_eq!(opened(&fresh).await, 101);
    let late = ticket(&house, 5, |record| record.grant_sequence = 8).await;
    house.clock.advance(Duration::from_secs(61));
    assert_eq!(opened(&late).await, 401, "after its minute");
}

#[tokio::test]
async fn a_ticket_is_no_token_and_no_key_to_anything_but_a_websocket() {
    let (told, _heard) = mpsc::unbounded_channel();
    let house = House::with(device(told)).await;
    let ticket = ticket(&house, 1, |_| ()).await;
    let plain = Request::get(format!("/d/cam/web/?ticket={ticket}")).header("host", HOST);
    assert_eq!(answered(&house, plain).await, 401);
    let bearer = upgrade("/d/cam/web/").header(AUTHORIZATION, format!("Bearer {ticket}"));
    assert_eq!(answered(&house, bearer).await, 401);
    let both = upgrade(&format!("/d/cam/web/?ticket={ticket}"))
        .header(AUTHORIZATION, format!("Bearer {}", house.token()));
    assert_eq!(answered(&house, both).await, 400);
    let alone = upgrade(&format!("/d/cam/web/?ticket={ticket}"));
    assert_eq!(answered(&house, alone).await, 101, "it was not used up by any of these");
}

#[tokio::test]
async fn of_fifty_who_race_with_one_ticket_one_wins() {
    let (told, _heard) = mpsc::unbounded_channel();
    let house = House::with(device(told)).await;
    for round in 0..10 {
        let ticket = ticket(&house, round, |_| ()).await;
        let races = (0..50).map(|_| answered(&house, upgrade(&format!("/d/cam/web/?ticket={ticket}"))));
        let mut statuses = join_all(races).await;
        statuses.sort_unstable();
        assert_eq!(statuses[0], 101, "{statuses:?}");
        assert!(statuses[1..].iter().all(|status| *status == 401), "round {round}: {statuses:?}");
    }
}
