//! Through real TLS on a real socket, as the door hands connections over.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use runtime::tls::{CertificateCell, Clients, provider, server_config};
use rustls::{ClientConfig, RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tcpmux_proto::{Buffered, Greeted, RefusedReason, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

use crate::{
    certificates::Issued,
    support::{Cloud, hello, reason, until},
};

/// A door that takes these protocols and, of the CA's certificates, any. Certificates of tests begin
/// and end around the tests' own time, so the verifier's time stands there.
async fn door(cloud: &Cloud, alpn: &[&[u8]]) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(cloud.authority.der().into()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let (certificate, key) = cloud.authority.server();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let cell = CertificateCell::new(vec![certificate.into()], key).unwrap();
    let mut config = server_config(cell, Clients::Certified(verifier), false, alpn);
    config.time_provider = Arc::new(TestTime);
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::clone(&cloud.server);
    cloud.tasks.spawn(async move {
        loop {
            let (socket, peer) = listener.accept().await.unwrap();
            let accepted = runtime::records::accept(socket, Arc::clone(&config), BytesMut::new()).await;
            if let Ok((records, device)) = accepted {
                server.serve(records, &device, peer);
            }
        }
    });
    address
}

#[derive(Debug)]
struct TestTime;

impl rustls::time_provider::TimeProvider for TestTime {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let seconds = u64::try_from(crate::certificates::START.secs()).unwrap();
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

async fn handshake(
    cloud: &Cloud,
    door: SocketAddr,
    issued: &Issued,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(cloud.authority.der().into()).unwrap();
    let key = PrivateKeyDer::Pkcs8(issued.key.serialize_der().into());
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(TestTime))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![issued.der.clone().into()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(door).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

async fn connect(
    cloud: &Cloud,
    door: SocketAddr,
    issued: &Issued,
) -> Result<Greeted, tcpmux_proto::GreetError> {
    let tls = handshake(cloud, door, issued, &[tcpmux_proto::ALPN]).await.unwrap();
    let (driver, handshake) = tcpmux_proto::device(Buffered::new(tls), Settings::default());
    cloud.tasks.spawn(driver);
    handshake.greet(hello("boot"), Duration::from_secs(30)).await
}

#[tokio::test]
async fn a_device_comes_in_by_its_certificate_serves_a_stream_and_is_revoked() {
    let cloud = Cloud::start();
    let door = door(&cloud, &[tcpmux_proto::ALPN]).await;
    let camera = cloud.enrolled("cam-01");
    let mut device = connect(&cloud, door, &camera).await.unwrap();
    until("served", async || cloud.server.session_count() == 1).await;

    let mut stream = cloud.open(&camera.device, "web").await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut remote = device.incoming.next().await.unwrap().accept().await;
    let mut four = [0; 4];
    remote.read_exact(&mut four).await.unwrap();
    remote.write_all(&four).await.unwrap();
    stream.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");

    let receipt = cloud.revoke(&camera).await;
    assert_eq!((receipt.nodes_acked, receipt.tunnels_closed), (1, 1));
    assert!(receipt.elapsed < Duration::from_secs(1), "{:?}", receipt.elapsed);
    assert!(stream.read_u8().await.is_err());
    device.handle.closed().await;
    // A whole new handshake, and no way back.
    let again = connect(&cloud, door, &camera).await;
    assert_eq!(reason(again), RefusedReason::NotAdmitted);
}

#[tokio::test]
async fn a_connection_without_the_tunnel_protocol_is_closed_unheard() {
    let cloud = Cloud::start();
    let door = door(&cloud, &[tcpmux_proto::ALPN, b"http/1.1"]).await;
    let camera = cloud.enrolled("cam-01");
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let mut tls = handshake(&cloud, door, &camera, alpn).await.unwrap();
        let mut nothing = Vec::new();
        // Closed without a close_notify: an error or an end, but no byte.
        let _ = tls.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
    }
    assert_eq!(cloud.registry.session_count(), 0);
    connect(&cloud, door, &camera).await.unwrap();
}
