//! The minimal deployment: tunnel and proxy alone, the operator's own CA and the operator's own issuer.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Cloud, Process, Provider, Service, client_program, eventually, now, run_ok, web};

#[tokio::test]
async fn tunnel_and_proxy_run_on_the_operators_ca_and_the_operators_issuer() {
    let pki = Pki::make().await;
    let issuer = Provider::start().await;
    let web = web().await;
    let cloud = Cloud::plan().config(&pki.config(&issuer)).trusted(&pki.file("ca.crt")).start().await;
    let device = pki.device("cam-01", &cloud, &web.url("http")).await;
    let token = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({
            "iss": issuer.issuer(), "aud": "tcpmux:proxy", "sub": "alice", "tenant": "default", "until": now() + 600,
            "iat": now(), "exp": now() + 300, "jti": "1", "devices": {"cam-01": {"level": "operator"}},
        });
        change(&mut body);
        issuer.signer().sign("at+jwt", &body)
    };
    let good = token(&|_| {});
    eventually("the device answers", || async {
        let answer = cloud.user().get("/d/cam-01/web/method").bearer(&good).send().await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{} {}", answer.problem().await, device.log()))
        }
    })
    .await;
    let posted =
        cloud.user().post("/d/cam-01/web/count").bearer(&good).body("123").send().await.expect(200).await;
    assert_eq!(posted.text().await, "3");
    for (change, problem) in [
        (&(|b: &mut Value| b["exp"] = json!(now() - 100)) as &dyn Fn(&mut Value), "401 TMX-4002"),
        (&|b: &mut Value| b["aud"] = json!("tcpmux"), "401 TMX-4003"),
        (&|b: &mut Value| b["tenant"] = json!("another"), "403 TMX-4030"),
        (&|b: &mut Value| b["devices"] = json!({}), "403 TMX-4030"),
        (&|b: &mut Value| b["devices"] = json!({"cam-01": {"level": "viewer"}}), "403 TMX-4031"),
        (&|b: &mut Value| b["devices"] = json!({"cam-02": {"level": "operator"}}), "403 TMX-4030"),
        (&|b: &mut Value| b["devices"]["cam-01"]["services"] = json!(["api"]), "403 TMX-4031"),
    ] {
        let refused =
            cloud.user().post("/d/cam-01/web/count").bearer(&token(change)).send().await.problem().await;
        // A tenant that the issuer may not sign for may also be a token that is not believed.
        assert!(
            refused == problem || (problem.ends_with("4030") && refused.starts_with("401")),
            "{refused}, expected {problem}"
        );
    }
    // What belongs to the other roles is not there.
    for (door, path) in [
        (cloud.user(), "/v1/me"),
        (cloud.user(), "/v1/token"),
        (cloud.device(), "/.well-known/est/cacerts"),
        (cloud.admin(), "/admin/api/otp"),
    ] {
        // The device door speaks no HTTP at all without that role.
        let answer = door.get(path).try_send().await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 404), "{path}");
    }
    cloud.admin().get("/readyz").send().await.expect(200).await;
    assert!(!cloud.data().join("tcpmux.db").exists() && !cloud.data().join("ca").exists(), "no store, no CA");
}

#[tokio::test]
async fn a_stream_lives_as_long_as_its_token_says_and_not_longer() {
    let pki = Pki::make().await;
    let issuer = Provider::start().await;
    let endless = Service::start(|mut conversation| async move {
        if conversation.request().await.is_some() {
            conversation.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            conversation.until_gone().await;
        }
    })
    .await;
    let cloud = Cloud::plan().config(&pki.config(&issuer)).trusted(&pki.file("ca.crt")).start().await;
    let _device = pki.device("cam-01", &cloud, &endless.url("http")).await;
    let token = |exp: u64, until: u64| {
        let body = json!({
            "iss": issuer.issuer(), "aud": "tcpmux:proxy", "sub": "alice", "tenant": "default", "until": now() + until,
            "iat": now(), "exp": now() + exp, "jti": "1", "devices": {"cam-01": {"level": "viewer"}},
        });
        issuer.signer().sign("at+jwt", &body)
    };
    let open = async |token: String| {
        eventually("the stream is open", || async {
            let answer = cloud.user().get("/d/cam-01/web/").bearer(&token).send().await;
            if answer.status == 200 { Ok(answer) } else { Err(answer.problem().await) }
        })
        .await
    };
    let mut long = open(token(4, 600)).await;
    let mut short = open(token(300, 4)).await;
    for answer in [&mut long, &mut short] {
        answer.next().await.unwrap().unwrap();
    }
    let cut = tokio::time::timeout(Duration::from_secs(15), short.next()).await.expect("`until` ends it");
    assert!(cut.is_some_and(|piece| piece.is_err()), "cut, not ended as if complete");
    // By now the other one's token has expired; what it opened lives on.
    let lives = tokio::time::timeout(Duration::from_secs(1), long.next()).await;
    assert!(lives.is_err(), "nothing ends it: {lives:?}");
}

#[tokio::test]
async fn certificates_of_another_ca_or_for_servers_are_not_devices() {
    let pki = Pki::make().await;
    let stranger = Pki::make().await;
    let issuer = Provider::start().await;
    let cloud = Cloud::plan().config(&pki.config(&issuer)).trusted(&pki.file("ca.crt")).start().await;
    let right = pki.leaf("cam-01", "clientAuth").await;
    let alpn: &[&[u8]] = &[b"tcpmux/1"];
    let knock = async |identity| {
        let tls = cloud.device().tls().clone().with_identity(identity).with_alpn(alpn);
        let mut said = vec![];
        match tls.connect(cloud.device_address()).await {
            Err(error) => Err(error),
            Ok(mut stream) => {
                // With TLS 1.3 the server's no comes with the first read; a yes waits for the hello.
                let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said);
                match tokio::time::timeout(Duration::from_secs(1), read).await {
                    Ok(_) => Err(std::io::ErrorKind::ConnectionRefused.into()),
                    Err(_) => Ok(()),
                }
            }
        }
    };
    assert!(knock(right).await.is_ok(), "the control: the right one is let in");
    assert!(knock(stranger.leaf("cam-01", "clientAuth").await).await.is_err());
    assert!(knock(pki.leaf("cam-01", "serverAuth").await).await.is_err());
    // A name that is no device's is told so in answer to the hello.
    let nameless = pki.device("Not A Name", &cloud, "http://127.0.0.1:1").await;
    eventually("the daemon is refused", || async {
        let log = nameless.log();
        if log.contains("does not admit") && !log.contains("connected server") { Ok(()) } else { Err(log) }
    })
    .await;
}

/// An operator's own CA, made with openssl.
pub(crate) struct Pki(TempDir);

impl Pki {
    pub(crate) async fn make() -> Self {
        let this = Self(TempDir::new().unwrap());
        let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=Operator -addext keyUsage=critical,keyCertSign,cRLSign";
        this.openssl(words, &["-keyout", "ca.key", "-out", "ca.crt"]).await;
        this.issue("server", "localhost", "serverAuth", "DNS:localhost,IP:127.0.0.1").await;
        this
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn config(&self, issuer: &Provider) -> String {
        format!(
            "roles = [\"tunnel\", \"proxy\"]\n[tls]\ncertificate = {:?}\nkey = {:?}\n[device_ca]\nbundle = {:?}\nid = \"cn\"\n\
             [[authorizer]]\nissuer = \"{}\"\njwks = \"{}\"\n",
            self.file("server.crt"),
            self.file("server.key"),
            self.file("ca.crt"),
            issuer.issuer(),
            issuer.keys_url()
        )
    }

    async fn leaf(&self, name: &str, usage: &str) -> tests::Identity {
        self.issue("leaf", name, usage, "DNS:ignored.example").await;
        tests::Identity::read(&self.file("leaf.crt"), &self.file("leaf.key"))
    }

    async fn issue(&self, file: &str, name: &str, usage: &str, alternative: &str) {
        let (key, request, certificate) =
            (format!("{file}.key"), format!("{file}.csr"), format!("{file}.crt"));
        let words = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        self.openssl(words, &["-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &request]).await;
        std::fs::set_permissions(self.file(&key), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let extensions =
            format!("extendedKeyUsage={usage}\nsubjectAltName={alternative}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(self.file("extensions"), extensions).unwrap();
        let words = "x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 10 -extfile extensions";
        self.openssl(words, &["-in", &request, "-out", &certificate]).await;
    }

    async fn openssl(&self, words: &str, more: &[&str]) {
        let directory = self.0.path().display().to_string();
        let all = ["-c", "cd \"$1\" && shift && exec openssl \"$@\"", "sh", &directory];
        run_ok("sh", all.into_iter().chain(words.split(' ')).chain(more.iter().copied()), b"").await;
    }

    /// A daemon with a certificate of this CA, configured by hand.
    pub(crate) async fn device(&self, name: &str, cloud: &Cloud, web: &str) -> Process {
        self.device_with(name, cloud, &[("web", web.to_owned())]).await
    }

    /// The same with these services.
    pub(crate) async fn device_with(
        &self,
        name: &str,
        cloud: &Cloud,
        services: &[(&str, String)],
    ) -> Process {
        self.issue("device", name, "clientAuth", &format!("DNS:{name}.example")).await;
        let mut config = format!(
            "server = \"localhost:{}\"\n[identity]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
            cloud.device_address().port(),
            self.file("ca.crt"),
            self.file("device.crt"),
            self.file("device.key"),
        );
        for (name, to) in services {
            config += &format!("[[service]]\nname = \"{name}\"\nto = \"{to}\"\n");
        }
        let file = self.file("client.toml");
        std::fs::write(&file, config).unwrap();
        let state = self.file("state").display().to_string();
        let mut command = Command::new(client_program());
        command.args(["run", "--no-local-api", "--state", &state, "--config"]).arg(&file);
        Process::start(name, command)
    }
}
