//! Published ports: raw TCP on real sockets of this machine.

use std::{io::ErrorKind, sync::Arc};

use cloud_proxy::PublishConfig;
use model::Target;
use tcpmux_proto::{OpenError, StreamKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    device::Device,
    house::{House, device_ref},
};

/// A client of a port that is published for the device's service `rtsp`.
async fn connect(house: &House, allow: &[&str]) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = Target { device: device_ref("cam"), service: "rtsp".parse().unwrap() };
    let config = PublishConfig { target, allow: allow.iter().map(|net| net.parse().unwrap()).collect() };
    let proxy = Arc::clone(&house.proxy);
    house.outside.spawn(async move { proxy.publish(listener, config).await });
    TcpStream::connect(address).await.unwrap()
}

/// Whatever the first byte or its absence is.
async fn end(client: &mut TcpStream) -> Result<usize, ErrorKind> {
    client.read(&mut [0; 64]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_published_port_carries_bytes_and_each_direction_ends_for_itself() {
    let device = Device::new().service("rtsp", |stream| async move {
        assert_eq!(stream.header.kind, StreamKind::Tcp);
        let mut stream = stream.accept().await;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let house = House::with(device).await;
    let mut client = connect(&house, &[]).await;
    client.write_all(b"abc").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"cba");
}

#[tokio::test]
async fn a_device_that_ends_first_can_still_be_written_to() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let device = Device::new().raw("rtsp", move |mut stream| {
        let told = told.clone();
        async move {
            stream.shutdown().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            let _ = told.send(all);
        }
    });
    let house = House::with(device).await;
    let mut client = connect(&house, &[]).await;
    assert_eq!(end(&mut client).await, Ok(0));
    client.write_all(b"after your end").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), b"after your end");
}

#[tokio::test]
async fn any_other_end_of_the_device_is_a_reset() {
    for is_lost in [false, true] {
        let device = Device::new().raw("rtsp", move |mut stream| async move {
            stream.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap();
            if is_lost {
                std::future::pending::<()>().await;
            }
            stream.reset();
        });
        let house = House::with(device).await;
        let mut client = connect(&house, &[]).await;
        assert_eq!(end(&mut client).await, Ok(1), "control");
        client.write_all(b"y").await.unwrap();
        if is_lost {
            house.sessions.of("cam").close(model::DisconnectCause::Lost);
        }
        assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_a_reset() {
    let refuses = Device::new().service("rtsp", |stream| async move { stream.reject(OpenError::Refused) });
    for house in [House::with(refuses).await, House::with(Device::new()).await, House::empty()] {
        let mut client = connect(&house, &[]).await;
        assert_eq!(end(&mut client).await, Err(ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn only_the_allowed_networks_may_connect() {
    let greets = Device::new().raw("rtsp", |mut stream| async move {
        stream.write_all(b"x").await.unwrap();
        crate::device::linger(&mut stream).await;
    });
    let house = House::with(greets).await;
    let mut stranger = connect(&house, &["10.1.0.0/16"]).await;
    assert_eq!(end(&mut stranger).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(house.sessions.opened(), 0);
    let mut listed = connect(&house, &["10.1.0.0/16", "127.0.0.0/8"]).await;
    assert_eq!(end(&mut listed).await, Ok(1));
}

#[tokio::test]
async fn a_client_that_resets_resets_the_device() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let device = Device::new().raw("rtsp", move |mut stream| {
        let told = told.clone();
        async move {
            stream.write_all(b"x").await.unwrap();
            let _ = told.send(stream.read_u8().await.unwrap_err().kind());
        }
    });
    let house = House::with(device).await;
    let mut client = connect(&house, &[]).await;
    assert_eq!(end(&mut client).await, Ok(1));
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(heard.recv().await.unwrap(), ErrorKind::ConnectionReset);
}
