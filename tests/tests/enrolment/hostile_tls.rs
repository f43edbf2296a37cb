//! Rows 40, 41, 60, 62 and 67: the handshake, what it remembers, and who comes with which certificate.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tests::{Cloud, Door, Finished, Identity, run, run_ok};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    applicant::{Applicant, enrolled, refusal, revoke},
    kept::Kept,
};

/// Row 40.
#[tokio::test]
async fn what_is_not_todays_tls_gets_no_further_than_the_handshake() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let get = "GET /.well-known/est/cacerts HTTP/1.0\r\n\r\n";
    let hello_of_1995 = [0x80, 0x1c, 0x01, 0x00, 0x02, 0x00, 0x03, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0x80];
    for (what, bytes) in [("plain HTTP", get.as_bytes()), ("SSL 2", &hello_of_1995), ("noise", &[0xff; 64])] {
        let mut socket = TcpStream::connect(door.address()).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut said = vec![];
        let ended = timeout(Duration::from_secs(10), socket.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "{what} is still held");
        // At most an alert: its type, a version, two octets.
        assert!(said.len() <= 7 && !said.starts_with(b"HTTP"), "{what}: {said:?}");
    }
    for (what, words) in [
        ("TLS 1.0", &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..]),
        ("TLS 1.1", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        ("no encryption", &["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"]),
        ("no identity", &["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"]),
        ("no forward secrecy", &["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"]),
        ("CBC", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"]),
    ] {
        let ended = s_client(&cloud, &door, words, "").await;
        assert_ne!(ended.code, 0, "{what}");
        assert!(
            ended.stderr.contains("alert") || ended.stderr.contains("handshake"),
            "{what}: {}",
            ended.stderr
        );
        assert!(ended.stdout.contains("no peer certificate available"), "{what}: {}", ended.stdout);
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let ended = s_client(&cloud, &door, &[version, "-ign_eof"], get).await;
        assert!(ended.stdout.contains("HTTP/1.0 200 OK"), "control: {version}: {}", ended.stdout);
    }
    let again = s_client(&cloud, &door, &["-tls1_2"], "R\n").await;
    assert!(again.stderr.contains("RENEGOTIATING") || again.stdout.contains("RENEGOTIATING"), "{again:?}");
    assert!(again.stderr.contains("no renegotiation") || again.code != 0, "{}", again.stderr);
}

/// Rows 41 and 60: what a door remembered could let in who was shut out since.
#[tokio::test]
async fn no_handshake_is_shortened_and_a_revoked_certificate_renews_nothing_on_any_connection() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let (device, certificate) = enrolled(&cloud, "cam-01").await;
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("cert.pem"), &certificate).unwrap();
    std::fs::write(file("key.pem"), device.key_pem()).unwrap();
    let shown = ["-cert", &file("cert.pem"), "-key", &file("key.pem")];
    let body = device.body();
    let post = format!(
        "POST /.well-known/est/simplereenroll HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/pkcs10\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut kept = Kept::open(&door.showing(&device.identity(&certificate))).await;
    let post_and_stay = post.replace("Connection: close\r\n", "");
    assert_eq!(kept.exchange(&post_and_stay).await, "200", "a fresh certificate's own key gets it again");

    let control = |version: &str| file(&format!("control{version}"));
    for version in ["-tls1_2", "-tls1_3"] {
        let session = file(&format!("session{version}"));
        let words = [&shown[..], &[version, "-ign_eof", "-sess_out", &session]].concat();
        let first = s_client(&cloud, &door, &words, &post).await;
        assert!(first.stdout.contains("HTTP/1.1 200 OK"), "{}", first.stdout);
        assert!(!PathBuf::from(&session).exists(), "{version}: the door gave something to come back with");
        // The admin door asks for no certificate and remembers: the same calls do shorten a handshake there.
        let get = "GET /livez HTTP/1.0\r\n\r\n";
        let kept = control(version);
        s_client(&cloud, &cloud.admin(), &[version, "-ign_eof", "-sess_out", &kept], get).await;
        let second = s_client(&cloud, &cloud.admin(), &[version, "-ign_eof", "-sess_in", &kept], get).await;
        assert!(second.stdout.contains("Reused, "), "control {version}: {}", second.stdout);
        let session = std::fs::read(&kept).unwrap();
        let told = run_ok("openssl", ["sess_id", "-noout", "-text"], &session).await;
        assert!(!told.contains("Max Early Data") || told.contains("Max Early Data: 0"), "no 0-RTT: {told}");
    }
    revoke(&cloud, &certificate, "keyCompromise").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = control(version);
        let words = [&shown[..], &[version, "-ign_eof", "-sess_in", &session]].concat();
        let second = s_client(&cloud, &door, &words, &post).await;
        assert!(!second.stdout.contains("Reused, ") && second.stdout.contains("New, "), "{}", second.stdout);
        assert!(second.stdout.contains("HTTP/1.1 401 Unauthorized"), "{}", second.stdout);
    }
    // The connection from before learns it with its next request, and is ended.
    assert_eq!(kept.exchange(&post_and_stay).await, "401");
    kept.until_closed().await;
}

/// Row 62.
#[tokio::test]
async fn a_certificate_that_is_not_this_clouds_device_is_refused_by_tls_or_with_401() {
    let (cloud, other) = tokio::join!(Cloud::start(), Cloud::start());
    let (device, certificate) = enrolled(&cloud, "cam-01").await;
    let (stranger, foreign) = enrolled(&other, "cam-01").await;
    let maker = Maker::new(&cloud);
    let name = maker.name(&certificate).await;
    let perfect = "extendedKeyUsage=clientAuth";
    // The same names on everything, by an authority that calls itself ours.
    let fake_ca = maker.authority(&maker.subject(&cloud.data().join("ca/devices.crt")).await).await;
    let data = cloud.data();
    let (devices, services) = (data.join("ca/devices"), data.join("ca/services"));
    let cases = [
        ("another cloud's device of the same id", stranger.identity(&foreign), "tls"),
        ("an authority of the same name", maker.leaf(&fake_ca, &name, perfect).await, "tls"),
        ("the services intermediate", maker.leaf(&services, &name, perfect).await, "tls"),
        (
            "a server's certificate",
            maker.leaf(&services, "localhost", "extendedKeyUsage=serverAuth").await,
            "tls",
        ),
        ("by a device", maker.leaf(&maker.keep(&device, &certificate), &name, perfect).await, "tls"),
        ("devices, but for servers", maker.leaf(&devices, &name, "extendedKeyUsage=serverAuth").await, "tls"),
        (
            "the stolen key of the devices intermediate",
            maker.leaf(&devices, &name, perfect).await,
            "401 certificate-invalid",
        ),
        ("its own", device.identity(&certificate), "200"),
    ];
    for (what, identity, wanted) in cases {
        let outcome = match device.renewal(&cloud.device().showing(&identity)).try_send().await {
            Err(_) => "tls".to_owned(),
            Ok(answer) if answer.status == 200 => "200".to_owned(),
            Ok(answer) => refusal(answer).await,
        };
        assert_eq!(outcome, wanted, "{what}");
    }
}

/// Row 62, tenants: a certificate is its own tenant's, and names in a request do not change that.
#[tokio::test]
async fn a_device_of_another_tenant_stays_there() {
    let cloud = Cloud::start().await;
    cloud.administer(http::Method::POST, "/admin/api/tenants", json!({"name": "acme"})).await;
    let (_, ours) = enrolled(&cloud, "cam-01").await;
    let made = json!({"device": "cam-01", "tenant": "acme"});
    let passcode = cloud.administer(http::Method::POST, "/admin/api/otp", made).await;
    let device = Applicant::new();
    let answer = device.enrolment(&cloud.device(), "cam-01", passcode["otp"].as_str().unwrap()).send().await;
    let theirs = answer.expect(200).await.text().await;
    let maker = Maker::new(&cloud);
    let (our_name, their_name) = (maker.name(&ours).await, maker.name(&theirs).await);
    assert!(our_name.starts_with("cam-01.default.device.") && their_name.starts_with("cam-01.acme.device."));
    let door = cloud.device().showing(&device.identity(&theirs));
    let next = Applicant::new();
    let body = |names: &[&str]| {
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, next.request_naming(Some("cam-01"), names))
    };
    let crossed = next.renewal(&door).body(body(&[&our_name])).send().await;
    assert_eq!(refusal(crossed).await, "403 identity-mismatch");
    let both = next.renewal(&door).body(body(&[&their_name, &our_name])).send().await;
    assert_eq!(refusal(both).await, "403 identity-mismatch");
    let right = next.renewal(&door).body(body(&[&their_name])).send().await.expect(200).await.text().await;
    assert_eq!(maker.name(&right).await, their_name);
}

/// Row 67.
#[tokio::test]
async fn two_proofs_that_disagree_are_refused() {
    let cloud = Cloud::start().await;
    let (device, certificate) = enrolled(&cloud, "cam-01").await;
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("cert.pem"), &certificate).unwrap();
    std::fs::write(file("key.pem"), device.key_pem()).unwrap();
    std::fs::write(file("same.b64"), device.body()).unwrap();
    std::fs::write(file("next.b64"), Applicant::new().body()).unwrap();
    let curl = async |operation: &str, body: &str, userpass: &str| {
        let (root, url) = (
            cloud.root().display().to_string(),
            cloud.device().url(&format!("/.well-known/est/{operation}")),
        );
        let body = format!("@{}", file(body));
        let said = run(
            "curl",
            [
                "-sS",
                "-w",
                "\n%{http_code}",
                "--cacert",
                &root,
                "--cert",
                &file("cert.pem"),
                "--key",
                &file("key.pem"),
            ]
            .into_iter()
            .chain([
                "-u",
                userpass,
                "-H",
                "Content-Type: application/pkcs10",
                "--data-binary",
                &body,
                &url,
            ]),
            b"",
        )
        .await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        let (text, status) = said.stdout.rsplit_once('\n').unwrap();
        format!("{status} {}", text.split(':').next().unwrap())
    };
    let other = cloud.passcode("cam-02").await;
    assert_eq!(curl("simpleenroll", "next.b64", &format!("cam-02:{other}")).await, "400 identity-mismatch");
    assert_eq!(curl("simplereenroll", "same.b64", "cam-02:").await, "400 identity-mismatch");
    let own = cloud.passcode("cam-01").await;
    assert!(curl("simpleenroll", "next.b64", &format!("cam-01:{own}")).await.starts_with("200 "));
    assert!(curl("simplereenroll", "same.b64", "cam-01:").await.starts_with("200 "), "control: they agree");
}

/// Runs openssl's client against a door with this on its input.
async fn s_client(cloud: &Cloud, door: &Door, words: &[&str], input: &str) -> Finished {
    let (address, root) = (door.address().to_string(), cloud.root().display().to_string());
    let mut all = vec!["s_client", "-connect", &address, "-servername", "localhost", "-CAfile", &root];
    all.extend(words);
    run("openssl", all, input.as_bytes()).await
}

/// Makes certificates with openssl, as a thief or a rival would.
struct Maker {
    folder: TempDir,
    count: std::cell::Cell<u32>,
}

impl Maker {
    fn new(_: &Cloud) -> Self {
        Self { folder: TempDir::new().unwrap(), count: std::cell::Cell::new(0) }
    }

    fn fresh(&self) -> String {
        self.count.set(self.count.get() + 1);
        self.folder.path().join(self.count.get().to_string()).display().to_string()
    }

    /// The only host name in a certificate.
    async fn name(&self, certificate: &str) -> String {
        let words = ["x509", "-noout", "-ext", "subjectAltName"];
        let text = run_ok("openssl", words, certificate.as_bytes()).await;
        text.split_once("DNS:").expect("there is one").1.trim().to_owned()
    }

    /// The CN of a certificate's subject.
    async fn subject(&self, file: &std::path::Path) -> String {
        let file = file.display().to_string();
        let text = run_ok("openssl", ["x509", "-noout", "-subject", "-in", &file], b"").await;
        text.trim().strip_prefix("subject=CN = ").unwrap().to_owned()
    }

    /// Lays a device's certificate and key down as an authority's; the files' common stem.
    fn keep(&self, device: &Applicant, certificate: &str) -> PathBuf {
        let stem = self.fresh();
        std::fs::write(format!("{stem}.crt"), certificate).unwrap();
        std::fs::write(format!("{stem}.key"), device.key_pem()).unwrap();
        stem.into()
    }

    /// A new authority that signs itself with this CN; the files' common stem.
    async fn authority(&self, name: &str) -> PathBuf {
        let stem = self.fresh();
        let (certificate, key, subject) =
            (format!("{stem}.crt"), format!("{stem}.key"), format!("/CN={name}"));
        let words =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"];
        let more = [
            "-subj",
            &subject,
            "-out",
            &certificate,
            "-keyout",
            &key,
            "-addext",
            "keyUsage=critical,keyCertSign",
        ];
        run_ok("openssl", words.into_iter().chain(more), b"").await;
        stem.into()
    }

    /// A leaf for this host name, signed with what lies under this stem.
    async fn leaf(&self, issuer: &std::path::Path, name: &str, purpose: &str) -> Identity {
        let stem = self.fresh();
        let (request, key, out, extensions) =
            (format!("{stem}.csr"), format!("{stem}.key"), format!("{stem}.crt"), format!("{stem}.ext"));
        let device = name.split('.').next().unwrap();
        let words = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let subject = format!("/CN={device}");
        let more = ["-subj", &subject, "-out", &request, "-keyout", &key];
        run_ok("openssl", words.into_iter().chain(more), b"").await;
        let text = format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n{purpose}\n\
             subjectAltName=DNS:{name}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        );
        std::fs::write(&extensions, text).unwrap();
        let (ca, ca_key) = (format!("{}.crt", issuer.display()), format!("{}.key", issuer.display()));
        let words = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-days", "9"];
        run_ok("openssl", words.into_iter().chain(["-extfile", &extensions, "-out", &out]), b"").await;
        Identity::read(out.as_ref(), key.as_ref())
    }
}
