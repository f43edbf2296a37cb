//! A client that goes away stops the device.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use http_body_util::{BodyExt, channel::Channel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::{
    device::{Device, read_head},
    house::{HOST, House},
};

/// A device that answers with an endless body and tells how its stream ended.
fn endless() -> (Device, mpsc::UnboundedReceiver<ErrorKind>) {
    let (told, ends) = mpsc::unbounded_channel();
    let told = Arc::new(told);
    let device = Device::new().raw("web", move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            read_head(&mut stream).await;
            let mut chunk: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
            loop {
                if let Err(error) = stream.write_all(chunk).await {
                    let _ = told.send(error.kind());
                    return;
                }
                chunk = &[b'x'; 1024];
            }
        }
    });
    (device, ends)
}

async fn next(ends: &mut mpsc::UnboundedReceiver<ErrorKind>) -> ErrorKind {
    tokio::time::timeout(Duration::from_secs(1), ends.recv()).await.expect("the device is told").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_connection_resets_the_stream() {
    let (device, mut ends) = endless();
    let house = House::with(device).await;
    let (client, connection) = hyper::client::conn::http1::handshake::<_, Body>(
        hyper_util::rt::TokioIo::new(house.connection(b"http/1.1")),
    )
    .await
    .unwrap();
    let mut client = client;
    let task = house.outside.spawn(connection);
    let request = house.request("GET", "/").body(Body::empty()).unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    assert!(ends.try_recv().is_err(), "control: the stream stands");
    task.abort();
    assert_eq!(next(&mut ends).await, ErrorKind::ConnectionReset);
    assert_eq!(house.sessions.of("cam").stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_cancels_one_request_resets_that_stream_alone() {
    let (device, mut ends) = endless();
    let house = House::with(device).await;
    let mut client = house.client_h2().await;
    let request = || {
        let mut request = house.request("GET", "").body(Body::empty()).unwrap();
        *request.uri_mut() = format!("https://{}/d/cam/web/", HOST).parse().unwrap();
        request
    };
    let mut kept = client.send_request(request()).await.unwrap().into_body().into_data_stream();
    let cancelled = client.send_request(request()).await.unwrap();
    assert_eq!(house.sessions.of("cam").stream_count(), 2);
    drop(cancelled);
    assert_eq!(next(&mut ends).await, ErrorKind::ConnectionReset);
    kept.next().await.unwrap().unwrap();
    assert_eq!(house.sessions.of("cam").stream_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_resets_the_stream() {
    let (told, mut ends) = mpsc::unbounded_channel();
    let device = Device::new().raw("web", move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            let mut all = Vec::new();
            let error = stream.read_to_end(&mut all).await.expect_err("a broken upload never looks finished");
            let _ = told.send(error.kind());
        }
    });
    let house = House::with(device).await;
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let mut client = house.client().await;
    let request = house.request("POST", "/").body(Body::new(body)).unwrap();
    let sending = house.outside.spawn(async move { client.send_request(request).await.is_ok() });
    sender.send_data("half of it".into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(ends.try_recv().is_err(), "control: the stream stands");
    sender.abort(std::io::Error::other("gone"));
    assert_eq!(next(&mut ends).await, ErrorKind::ConnectionReset);
    let _ = sending.await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_aborted_downloads_leave_nothing_behind() {
    let (device, mut ends) = endless();
    let house = House::with(device).await;
    let mut client = house.client_h2().await;
    // One token for all: signing is slow without optimisation.
    let token = format!("Bearer {}", house.token());
    for _ in 0..1000 {
        let request = Request::get(format!("https://{HOST}/d/cam/web/")).header("authorization", &token);
        let request = request.body(Body::empty()).unwrap();
        let mut response = client.send_request(request).await.unwrap();
        response.body_mut().frame().await.unwrap().unwrap();
        drop(response);
        assert_eq!(next(&mut ends).await, ErrorKind::ConnectionReset);
    }
    assert_eq!(house.sessions.of("cam").stream_count(), 0);
    assert!(house.tasks.wait(Duration::from_secs(1)).await, "{} tasks are left", house.tasks.len());
}
