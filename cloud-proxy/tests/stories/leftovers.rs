//! Clients that send everything before they read anything get their answer all the same.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::{
    device::{After, Device},
    house::{HOST, House},
};

const REFUSES: &[u8] = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig";

fn head(house: &House, length: usize, more: &str) -> String {
    let token = house.token();
    format!(
        "POST /d/cam/web/ HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n{more}content-length: {length}\r\n\r\n"
    )
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_body_is_read_after_it() {
    for (house, status) in [
        (House::with(Device::new().says("web", REFUSES, After::Stay)).await, "413"),
        (House::with(Device::new()).await, "404"),
        (House::empty(), "503"),
    ] {
        let mut client = house.connection(b"http/1.1");
        // Far more than all buffers on the way hold.
        let body = vec![0; 4 << 20];
        for _ in 0..2 {
            client.write_all(head(&house, body.len(), "").as_bytes()).await.unwrap();
            client.write_all(&body).await.unwrap();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes());
            // The rest of the answer, so that the next one begins cleanly.
            let mut rest = [0; 4096];
            while timeout(Duration::from_millis(1), client.read(&mut rest)).await.is_ok() {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_not_read_for_ever() {
    let house = House::empty();
    let mut client = house.connection(b"http/1.1");
    client.write_all(head(&house, 1 << 40, "").as_bytes()).await.unwrap();
    let mut sent = 0;
    while client.write_all(&[0; 64 * 1024]).await.is_ok() {
        sent += 64 * 1024;
    }
    assert!(sent < 16 << 20, "{sent} bytes were taken");

    let mut client = house.connection(b"http/1.1");
    client.write_all(head(&house, 1 << 40, "").as_bytes()).await.unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 503"));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_continue_is_not_told_to_after_the_answer() {
    let house = House::empty();
    let request = head(&house, 1000, "expect: 100-continue\r\n");
    let answer = String::from_utf8(house.raw(request.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && !answer.contains(" 100 "), "{answer}");
}
