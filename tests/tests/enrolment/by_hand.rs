//! A device without our daemon: a shell, curl and openssl, and nothing else.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use tests::{Cloud, Finished, now, run};

use super::applicant::{certificates_of, fingerprint, revoke};

/// A directory in which a shell works, with what a newcomer would export first.
struct Shell {
    directory: TempDir,
    settings: String,
}

impl Shell {
    fn new(cloud: &Cloud) -> Self {
        let directory = TempDir::new().unwrap();
        let settings = format!(
            "set -eu; CA={} EST={} CRL={} DEVICES={} SERVICES={}\n",
            cloud.root().display(),
            cloud.device().url("/.well-known/est"),
            cloud.device().url("/crl"),
            cloud.data().join("ca/devices.crt").display(),
            cloud.data().join("ca/services.crt").display(),
        );
        Self { directory, settings }
    }

    /// Runs a script in it, whatever its end.
    async fn attempt(&self, script: &str) -> Finished {
        let text = format!("cd '{}'; {}{script}", self.directory.path().display(), self.settings);
        run("sh", ["-c", &text], b"").await
    }

    /// Runs a script that has to succeed; what it says.
    async fn run(&self, script: &str) -> String {
        let finished = self.attempt(script).await;
        assert_eq!(finished.code, 0, "{script}\n{}\n{}", finished.stdout, finished.stderr);
        finished.stdout
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }
}

/// Makes a key and a request, and redeems a passcode with them: `$1` is the device.
fn enrolment(device: &str, passcode: &str) -> String {
    format!(
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem
         openssl req -new -key key.pem -subj /CN={device} -outform DER | base64 >request.b64
         curl -sS --fail-with-body --cacert $CA -u '{device}:{passcode}' -H 'Content-Type: application/pkcs10' \
              --data-binary @request.b64 $EST/simpleenroll >answer.b64
         base64 -d answer.b64 | openssl pkcs7 -inform DER -print_certs | openssl x509 -out cert.pem"
    )
}

#[tokio::test]
async fn a_shell_with_curl_and_openssl_enrols_and_the_certificate_is_what_the_contract_says() {
    let cloud = Cloud::start().await;
    let shell = Shell::new(&cloud);
    shell.run(&enrolment("cam-01", &cloud.passcode("cam-01").await)).await;

    let verify = "openssl verify -x509_strict -CAfile $CA -untrusted $DEVICES";
    assert_eq!(shell.run(&format!("{verify} -purpose sslclient cert.pem")).await, "cert.pem: OK\n");
    let as_server = shell.attempt(&format!("{verify} -purpose sslserver cert.pem")).await;
    assert_ne!(as_server.code, 0);
    assert!(as_server.stderr.contains("unsuitable certificate purpose"), "{}", as_server.stderr);
    let by_services =
        shell.attempt("openssl verify -x509_strict -CAfile $CA -untrusted $SERVICES cert.pem").await;
    assert_ne!(by_services.code, 0, "control: another intermediate does not verify it");

    let domain = cloud.administer(http::Method::GET, "/admin/api/ca", json!(null)).await["domain"].clone();
    let domain = domain.as_str().unwrap();
    let random = domain.strip_suffix(".tcpmux.internal").unwrap();
    assert!(random.len() == 8 && random.chars().all(|c| c.is_ascii_alphanumeric()), "{domain}");
    let text = shell.run("openssl x509 -in cert.pem -noout -text").await;
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "Subject: CN = cam-01 Subject Public Key Info",
        &format!("Issuer: CN = tcpmux devices {domain} "),
        "Signature Algorithm: ecdsa-with-SHA256",
        "X509v3 Basic Constraints: critical CA:FALSE",
        "X509v3 Key Usage: critical Digital Signature X509v3",
        "X509v3 Extended Key Usage: TLS Web Client Authentication X509v3",
        &format!("X509v3 Subject Alternative Name: DNS:cam-01.default.device.{domain} X509v3"),
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(flat.contains(said), "`{said}` is not in {text}");
    }
    assert_eq!(text.matches("X509v3 ").count(), 7, "nothing else: {text}");
    assert_eq!(
        shell.run("openssl pkey -in key.pem -pubout").await,
        shell.run("openssl x509 -in cert.pem -noout -pubkey").await
    );

    let second =
        |field: &str| format!("date -u -d \"$(openssl x509 -in cert.pem -noout {field} | cut -d= -f2)\" +%s");
    let begin: u64 = shell.run(&second("-startdate")).await.trim().parse().unwrap();
    let end: u64 = shell.run(&second("-enddate")).await.trim().parse().unwrap();
    let issued = begin + 3600;
    assert!((now() - 30..=now()).contains(&issued), "an hour before now: {begin}");
    assert_eq!(end, issued + 90 * 86_400);

    let serial = shell.run("openssl x509 -in cert.pem -noout -serial").await;
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    assert!(
        serial.len() == 36 && serial.starts_with("01"),
        "a writer's number and 136 random bits: {serial}"
    );

    // The registry knows exactly this one.
    let rows = certificates_of(&cloud, "cam-01").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["fingerprint"], fingerprint(&shell.read("cert.pem")));
    assert_eq!(rows[0]["serial"].as_str().unwrap().to_uppercase(), serial);
}

#[tokio::test]
async fn the_answer_is_the_leaf_alone_in_one_line_or_pem_for_who_asks() {
    let cloud = Cloud::start().await;
    let shell = Shell::new(&cloud);
    let passcode = cloud.passcode("cam-01").await;
    shell.run(&enrolment("cam-01", &passcode)).await;
    let answer = shell.read("answer.b64");
    assert!(answer.ends_with('\n') && answer.lines().count() == 1, "{answer}");
    let unpacked = shell.run("base64 -d answer.b64 | openssl pkcs7 -inform DER -print_certs -noout").await;
    assert_eq!(unpacked.matches("subject=").count(), 1, "{unpacked}");
    // The same request again, this time for a shell without openssl pkcs7: the same certificate.
    let post = "curl -sS --fail-with-body --cacert $CA -H 'Content-Type: application/pkcs10' --data-binary @request.b64";
    let heads = shell
        .run(&format!(
            "{post} -u ':{passcode}' -H 'Accept: application/x-pem-file' -D - -o again.pem $EST/simpleenroll"
        ))
        .await;
    assert!(heads.contains("Content-Type: application/x-pem-file"), "{heads}");
    assert!(heads.to_ascii_lowercase().contains("cache-control: no-store"), "{heads}");
    assert_eq!(fingerprint(&shell.read("again.pem")), fingerprint(&shell.read("cert.pem")));
    let heads = shell.run(&format!("{post} -u ':{passcode}' -D - -o /dev/null $EST/simpleenroll")).await;
    // Byte for byte, and a length: what libest and strongSwan compare and need.
    assert!(heads.contains("\r\nContent-Type: application/pkcs7-mime; smime-type=certs-only\r\n"), "{heads}");
    assert!(heads.contains("\r\nContent-Length: ") && !heads.contains("hunked"), "{heads}");
    // A passcode that was given to no device: the shell's own name for itself is taken, from the CN.
    let unbound = cloud.administer(http::Method::POST, "/admin/api/otp", json!({})).await;
    let unbound = unbound["otp"].as_str().unwrap();
    shell
        .run(&format!(
            "openssl ecparam -name prime256v1 -genkey -noout -out new.key
             openssl req -new -key new.key -subj /CN=door-7 -outform DER | base64 >request.b64
             {post} -u ':{unbound}' -H 'Accept: application/x-pem-file' -o new.pem $EST/simpleenroll"
        ))
        .await;
    assert_eq!(shell.run("openssl x509 -in new.pem -noout -subject").await, "subject=CN = door-7\n");
    // A wrong passcode: curl says 22, the text says why.
    let wrong = shell.attempt(&format!("{post} -u ':wrong' $EST/simpleenroll")).await;
    assert_eq!(wrong.code, 22);
    assert!(wrong.stdout.starts_with("passcode-invalid: "), "{}", wrong.stdout);
}

#[tokio::test]
async fn a_shell_fetches_the_authorities_and_what_to_ask_for() {
    let cloud = Cloud::start().await;
    let shell = Shell::new(&cloud);
    let subjects = shell
        .run("curl -sS --cacert $CA $EST/cacerts | base64 -d | openssl pkcs7 -inform DER -print_certs -noout")
        .await;
    for name in ["root", "devices", "services"] {
        assert_eq!(subjects.matches(&format!("subject=CN = tcpmux {name} ")).count(), 1, "{subjects}");
    }
    shell
        .run(
            "curl -sS --cacert $CA -H 'Accept: application/x-pem-file' -o chain.pem $EST/cacerts
              openssl verify -x509_strict -CAfile chain.pem $DEVICES $SERVICES",
        )
        .await;
    // libest reads the long answer only in lines of 64.
    let libest = shell.run("curl -sS --cacert $CA -A 'libest 1.0' $EST/cacerts").await;
    assert!(libest.lines().count() > 10 && libest.lines().all(|line| line.len() <= 64), "{libest}");
    let attributes =
        shell.run("curl -sS --cacert $CA $EST/csrattrs | base64 -d | openssl asn1parse -inform DER").await;
    for name in ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"] {
        assert!(attributes.contains(name), "{attributes}");
    }
}

#[tokio::test]
async fn a_shell_renews_with_its_certificate_and_an_end_is_published_with_its_reason() {
    let cloud = Cloud::start().await;
    let shell = Shell::new(&cloud);
    shell.run(&enrolment("cam-01", &cloud.passcode("cam-01").await)).await;
    let renew = "curl -sS --fail-with-body --cacert $CA -H 'Content-Type: application/pkcs10' \
                 -H 'Accept: application/x-pem-file' --data-binary @next.b64 $EST/simplereenroll";
    shell
        .run(&format!(
            "openssl ecparam -name prime256v1 -genkey -noout -out next.key
             openssl req -new -key next.key -subj /CN=cam-01 -outform DER | base64 >next.b64
             {renew} --cert cert.pem --key key.pem -o next.pem
             openssl verify -x509_strict -purpose sslclient -CAfile $CA -untrusted $DEVICES next.pem"
        ))
        .await;
    assert_eq!(
        shell.run("openssl x509 -in next.pem -noout -subject -ext subjectAltName").await,
        shell.run("openssl x509 -in cert.pem -noout -subject -ext subjectAltName").await
    );
    let serials = shell.run("for c in cert next; do openssl x509 -in $c.pem -noout -serial; done").await;
    assert_eq!(serials.lines().count(), 2);
    assert_ne!(serials.lines().next(), serials.lines().nth(1));
    // Without a certificate there is nothing to renew, and a passcode is no substitute.
    let passcode = cloud.passcode("cam-01").await;
    for proof in ["", &format!("-u 'cam-01:{passcode}'")] {
        let refused = shell.attempt(&format!("{renew} {proof}")).await;
        assert_eq!(refused.code, 22, "{}", refused.stdout);
        assert!(refused.stdout.starts_with("certificate-invalid: "), "{}", refused.stdout);
    }

    let lists = "curl -sS --fail-with-body --cacert $CA -o devices.crl $CRL/devices.crl
                 curl -sS --fail-with-body --cacert $CA -o services.crl $CRL/services.crl";
    shell.run(lists).await;
    let (old, new) = (shell.read("cert.pem"), shell.read("next.pem"));
    let parse = "openssl crl -inform DER -noout";
    for (name, issuer) in [("devices", "$DEVICES"), ("services", "$SERVICES")] {
        let said = shell.run(&format!("{parse} -in {name}.crl -CAfile {issuer} 2>&1")).await;
        assert_eq!(said, "verify OK\n", "{name}");
    }
    let foreign = shell.attempt(&format!("{parse} -in devices.crl -CAfile $SERVICES 2>&1")).await;
    assert!(foreign.code != 0 && !foreign.stdout.contains("verify OK"), "control: {foreign:?}");
    let listed = shell.run(&format!("{parse} -in devices.crl -text")).await;
    assert!(listed.contains("No Revoked Certificates"), "{listed}");

    let receipt = revoke(&cloud, &new, "keyCompromise").await;
    for member in ["seq", "nodes_acked", "nodes", "tunnels_closed", "ms"] {
        assert!(receipt[member].is_number(), "{member} in {receipt}");
    }
    shell.run(lists).await;
    let listed = shell.run(&format!("{parse} -in devices.crl -text")).await;
    for serial in serials.lines().map(|line| line.strip_prefix("serial=").unwrap()) {
        let entry = listed.split("Serial Number: ").find(|entry| entry.starts_with(serial));
        let entry = entry.unwrap_or_else(|| panic!("{serial} is not listed: {listed}"));
        assert!(entry.contains("X509v3 CRL Reason Code:") && entry.contains("Key Compromise"), "{entry}");
    }
    // What others do with the list.
    let check = "openssl crl -inform DER -in devices.crl -out list.pem
                 openssl verify -crl_check -CAfile $CA -untrusted $DEVICES -CRLfile list.pem";
    let checked = shell.attempt(&format!("{check} next.pem")).await;
    assert!(checked.stderr.contains("certificate revoked"), "{}", checked.stderr);
    // And the door itself.
    let refused = shell.attempt(&format!("{renew} --cert next.pem --key next.key")).await;
    assert_eq!(refused.code, 22);
    assert!(refused.stdout.starts_with("certificate-invalid: ") && refused.stdout.contains("re-provision"));
    assert_ne!(fingerprint(&old), fingerprint(&new));
}
