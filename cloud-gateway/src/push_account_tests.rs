use std::{fs, os::unix::fs::PermissionsExt};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

fn account_file(token_uri: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let text = json!({
        "type": "service_account", "project_id": "demo-1", "private_key_id": "k1", "private_key": pem,
        "client_email": "push@demo-1.iam.gserviceaccount.com", "token_uri": token_uri,
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fcm.json");
    fs::write(&path, text.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (folder, path)
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

#[test]
fn the_assertion_says_who_for_whom_and_until_when_and_its_signature_verifies() {
    let (_folder, path) = account_file("https://oauth.example/token");
    let account = PushAccount::load(&path, HttpClient::loopback_only(), Clock::manual(NOW).0).unwrap();
    let assertion = account.assertion(NOW).unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.key.public_key().as_ref());
    assert!(public.verify(signed.as_bytes(), &decode(signature)).is_ok());
    assert!(public.verify(b"other", &decode(signature)).is_err(), "control");
    let (head, body) = signed.split_once('.').unwrap();
    let head: Value = serde_json::from_slice(&decode(head)).unwrap();
    assert_eq!(head, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let body: Value = serde_json::from_slice(&decode(body)).unwrap();
    assert_eq!(body["aud"], "https://oauth.example/token");
    assert_eq!(body["exp"].as_i64().unwrap() - body["iat"].as_i64().unwrap(), ASSERTION_SECONDS);
    assert!(!format!("{account:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_token_is_fetched_once_kept_until_its_end_and_replaced_when_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_folder, path) = account_file(&format!("http://{}/token", listener.local_addr().unwrap()));
    let (clock, hand) = Clock::manual(NOW);
    let account = PushAccount::load(&path, HttpClient::loopback_only(), clock).unwrap();
    let serve = async {
        for number in 1.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 8192];
            let count = socket.read(&mut head).await.unwrap();
            assert!(String::from_utf8_lossy(&head[..count]).starts_with("POST /token HTTP/1.1\r\n"));
            let body = format!(r#"{{"access_token":"t{number}","expires_in":3600,"token_type":"Bearer"}}"#);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let calls = async {
        let first = account.authorization(None).await.unwrap();
        assert_eq!((first.to_str().unwrap(), first.is_sensitive()), ("Bearer t1", true));
        assert_eq!(account.authorization(None).await.unwrap(), "Bearer t1");
        assert_eq!(account.authorization(Some(&first)).await.unwrap(), "Bearer t2");
        assert_eq!(account.authorization(Some(&first)).await.unwrap(), "Bearer t2", "t1 alone was refused");
        hand.advance(Duration::from_secs(3541));
        assert_eq!(account.authorization(None).await.unwrap(), "Bearer t3");
    };
    tokio::select! { () = serve => {}, () = calls => {} }
}

#[test]
fn a_file_that_is_no_account_is_refused_without_its_content() {
    let (_folder, path) = account_file("https://oauth.example/token");
    let load = || PushAccount::load(&path, HttpClient::loopback_only(), Clock::manual(NOW).0);
    assert!(load().is_ok(), "control");
    let good: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (member, value) in [
        ("type", "authorized_user"),
        ("project_id", "../x"),
        ("private_key", "canary"),
        ("private_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ] {
        let mut bad = good.clone();
        bad[member] = value.into();
        fs::write(&path, bad.to_string()).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(!error.contains("canary") && error.contains("fcm.json"), "{member}: {error}");
    }
    fs::write(&path, good.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load(), Err(PushAccountError::File(_))));
}
