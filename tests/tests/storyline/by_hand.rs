//! A device made by hand: curl and openssl for its certificate, its own frames for the tunnel.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Finished, Identity, run, run_ok};

use super::Story;
use crate::network::peer::{Greeted, Peer};

impl Story {
    /// Steps 2 and 3: one curl for a passcode, curl and openssl for the certificate, and no second use.
    pub(super) async fn a_passcode_with_curl_enrols_a_device_by_hand_once(&self) -> Identity {
        let cloud = &self.cloud;
        let key = format!("Authorization: PROV-ADMIN {}", cloud.key());
        let url = cloud.admin().url("/admin/api/otp?device=hand-01");
        let passcode = curl(cloud, &["-H", &key, &url]).await;
        assert_eq!(status(&passcode), "200", "{passcode:?}");
        let passcode = passcode.stdout.lines().next().unwrap().to_owned();

        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let enrolled = enrol(cloud, first.path(), "hand-01", &passcode).await;
        assert_eq!(status(&enrolled), "200", "{enrolled:?}");
        let root = cloud.root().display().to_string();
        let devices = cloud.data().join("ca/devices.crt").display().to_string();
        let certificate = first.path().join(CERTIFICATE);
        let certificate_file = certificate.display().to_string();
        let words =
            ["verify", "-CAfile", &root, "-untrusted", &devices, "-purpose", "sslclient", &certificate_file];
        assert!(run_ok("openssl", words, b"").await.contains("OK"));
        let again = enrol(cloud, second.path(), "hand-01", &passcode).await;
        assert!(matches!(status(&again), "401" | "403"), "{again:?}");
        Identity::read(&certificate, &first.path().join(KEY))
    }

    /// Step 4, the last part: the token that a device is handed through its tunnel opens the device gateway for this
    /// device, also where no certificate is shown.
    pub(super) async fn the_device_token_works(&self, maker: &Identity) {
        let mut peer = Peer::dial(&self.cloud, maker).await.unwrap();
        assert_eq!(peer.greet("by-hand").await, Greeted::Welcome);
        let token = peer.device_token().await;
        let door = self.cloud.device();
        assert_eq!(door.get("/device/v1/self").send().await.status, 401, "control: nothing is shown");
        let told = door.get("/device/v1/self").bearer(&token).send().await.expect(200).await.json().await;
        assert_eq!((&told["id"], &told["tenant"]), (&json!("hand-01"), &json!("default")));
        let item = json!({"data": {"temperature": 7}});
        let posted = door.post("/device/v1/telemetry").bearer(&token).json(&item).send().await;
        let posted = posted.expect(200).await.json().await;
        assert_eq!(posted["results"][0]["status"], "accepted", "{posted}");
        let elsewhere = self.cloud.user().get("/v1/me").bearer(&token).send().await;
        assert_eq!(elsewhere.status, 401, "it is nobody's but the device gateway's");
        drop(peer);
        self.cloud.until_online("hand-01", false, std::time::Duration::from_secs(30)).await;
        // Removed with the device, though its time is not over.
        self.cloud.administer(Method::DELETE, "/admin/api/devices/hand-01", Value::Null).await;
        let refused = door.get("/device/v1/self").bearer(&token).send().await;
        assert!([401, 403].contains(&refused.status.as_u16()), "{}", refused.text().await);
    }
}

/// curl with this cloud's authority; what it says, and the status on a last line.
async fn curl(cloud: &Cloud, words: &[&str]) -> Finished {
    let root = cloud.root().display().to_string();
    let mut all = vec!["-sS", "--cacert", &root, "-w", "\n%{http_code}"];
    all.extend(words);
    run("curl", all, b"").await
}

fn status(finished: &Finished) -> &str {
    finished.stdout.lines().last().unwrap_or_default()
}

/// Asks for a certificate with curl and openssl alone; key and certificate lie in the directory then.
async fn enrol(cloud: &Cloud, directory: &Path, device: &str, passcode: &str) -> Finished {
    let file = |name: &str| directory.join(name).display().to_string();
    let (key, csr, certificate) = (file(KEY), file("csr.der"), file(CERTIFICATE));
    let words = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key];
    run_ok("openssl", words, b"").await;
    let subject = format!("/CN={device}");
    let words = ["req", "-new", "-key", &key, "-subj", &subject, "-outform", "DER", "-out", &csr];
    run_ok("openssl", words, b"").await;
    let body = run_ok("openssl", ["base64", "-in", &csr], b"").await;
    let body_file = file("csr.b64");
    std::fs::write(&body_file, body).unwrap();
    let (user, data) = (format!("{device}:{passcode}"), format!("@{body_file}"));
    let url = cloud.device().url("/.well-known/est/simpleenroll");
    let (kind, wanted) = ("Content-Type: application/pkcs10", "Accept: application/x-pem-file");
    let words = ["-u", &user, "-H", kind, "-H", wanted, "--data-binary", &data, "-o", &certificate, &url];
    curl(cloud, &words).await
}

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
