//! What the device door's handshake allows: TLS 1.3 alone for tunnels, and nothing to come back with.

use std::path::Path;

use tests::{Cloud, EnrolledDevice, Finished, run};

use super::peer::{Greeted, Peer};

#[tokio::test]
async fn a_tunnel_is_made_with_tls_1_3_and_its_own_protocol_or_not_at_all() {
    let cloud = Cloud::start().await;
    let device = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let tls = cloud.device().tls().clone().with_identity(device.identity());
    let address = cloud.device_address();
    let old = tls.clone().with_versions(OLD).with_alpn(&[tcpmux_proto::ALPN]);
    assert!(old.connect(address).await.is_err(), "TLS 1.2");
    for alpn in [&b"h2"[..], b"tcpmux/2", b"tcpmux-peer/1"] {
        assert!(tls.clone().with_alpn(&[alpn]).connect(address).await.is_err(), "{alpn:?}");
    }
    // Controls: TLS 1.2 is spoken for HTTP, and the tunnel with 1.3.
    let web = tls.with_versions(OLD).with_alpn(&[b"http/1.1"]);
    web.connect(address).await.unwrap();
    let mut peer = Peer::dial(&cloud, &device.identity()).await.unwrap();
    assert_eq!(peer.greet("first").await, Greeted::Welcome);
}

#[tokio::test]
async fn the_device_door_gives_nobody_a_ticket_and_resumes_nothing() {
    let cloud = Cloud::start().await;
    let device = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("session");
    let at = cloud.device_address().to_string();
    let root = cloud.root().display().to_string();
    let (certificate, key) = (device.certificate().display().to_string(), device.key().display().to_string());
    let own = ["-cert", &certificate, "-key", &key];
    let of_device: [(&str, Vec<&str>); 4] = [
        ("a tunnel", [&["-alpn", "tcpmux/1", "-tls1_3"], &own[..]].concat()),
        ("HTTP with a certificate", [&["-alpn", "http/1.1", "-tls1_3"], &own[..]].concat()),
        ("HTTP with a certificate, TLS 1.2", [&["-alpn", "http/1.1", "-tls1_2"], &own[..]].concat()),
        ("HTTP without a certificate", vec!["-alpn", "http/1.1", "-tls1_3"]),
    ];
    for (what, words) in of_device {
        let first = shake_hands(&at, &root, &words, Some(("-sess_out", &saved))).await;
        assert!(first.stdout.contains("Verify return code: 0"), "{what}: {first:?}");
        assert_eq!(tickets(&first), 0, "{what}: {}", first.stdout);
        if saved.exists() {
            let second = shake_hands(&at, &root, &words, Some(("-sess_in", &saved))).await;
            assert!(second.stdout.contains("\nNew, "), "{what}: a full handshake: {}", second.stdout);
            assert!(!second.stdout.contains("\nReused, "), "{what}: {}", second.stdout);
            std::fs::remove_file(&saved).unwrap();
        }
    }
    // Control: the user door, where nobody shows a certificate, hands out tickets, and this sees them.
    let user = cloud.user().address().to_string();
    let first = shake_hands(&user, &root, &["-tls1_3"], Some(("-sess_out", &saved))).await;
    assert!(tickets(&first) > 0, "{}", first.stdout);
    let second = shake_hands(&user, &root, &["-tls1_3"], Some(("-sess_in", &saved))).await;
    assert!(second.stdout.contains("\nReused, "), "{}", second.stdout);
}

async fn shake_hands(at: &str, root: &str, words: &[&str], session: Option<(&str, &Path)>) -> Finished {
    let mut all = vec!["s_client", "-connect", at, "-servername", "localhost", "-CAfile", root, "-msg"];
    all.extend(words);
    let file;
    if let Some((flag, path)) = session {
        file = path.display().to_string();
        all.extend([flag, &file]);
    }
    // The question and a moment make it wait for what the server may still say; then its input ends.
    let script = format!(
        "{{ printf 'GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'; sleep 0.5; }} | openssl {}",
        all.join(" ")
    );
    run("sh", ["-c", &script], b"").await
}

fn tickets(finished: &Finished) -> usize {
    finished.stdout.matches("NewSessionTicket").count() + finished.stderr.matches("NewSessionTicket").count()
}

const OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
