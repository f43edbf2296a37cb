//! strongSwan's `pki`, a client that we did not write: `--estca` and `--est` as Debian ships them.

use tempfile::TempDir;
use tests::{Cloud, Finished, run};

use super::applicant::{certificates_of, fingerprint};

struct Pki {
    directory: TempDir,
    url: String,
    root: String,
}

impl Pki {
    fn new(cloud: &Cloud) -> Self {
        let url = format!("https://localhost:{}", cloud.device_address().port());
        Self { directory: TempDir::new().unwrap(), url, root: cloud.root().display().to_string() }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    async fn run(&self, words: &[&str], output: &str) -> Finished {
        let finished = run("pki", words, b"").await;
        std::fs::write(self.path(output), &finished.bytes).unwrap();
        finished
    }

    /// Makes a key and a request with this CN, as `NAME.key` and `NAME.der`.
    async fn request(&self, name: &str, device: &str) {
        let (key, file) = (self.path(&format!("{name}.key")), format!("{name}.key"));
        let made = self.run(&["--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem"], &file).await;
        assert_eq!(made.code, 0, "{}", made.stderr);
        let subject = format!("CN={device}");
        let words = ["--req", "--in", &key, "--type", "priv", "--dn", &subject];
        let made = self.run(&words, &format!("{name}.der")).await;
        assert_eq!(made.code, 0, "{}", made.stderr);
    }

    /// Sends the request of this name with these proofs; the certificate lies in `NAME.pem`.
    async fn enrol(&self, name: &str, proof: &[&str]) -> Finished {
        let request = self.path(&format!("{name}.der"));
        let mut words = vec!["--est", "--url", &self.url, "--cacert", &self.root, "--in", &request];
        words.extend(["--outform", "pem"]);
        words.extend(proof);
        self.run(&words, &format!("{name}.pem")).await
    }

    fn certificate(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pem"))).unwrap()
    }
}

#[tokio::test]
async fn strongswan_fetches_the_authorities_enrols_with_a_passcode_and_renews_with_its_certificate() {
    let cloud = Cloud::start().await;
    let pki = Pki::new(&cloud);
    let out = pki.path("ca.pem");
    let words = ["--estca", "--url", &pki.url, "--cacert", &pki.root, "--caout", &out, "--outform", "pem"];
    let fetched = pki.run(&words, "said").await;
    assert_eq!(fetched.code, 0, "{}", fetched.stderr);
    let files =
        ["ca.pem", "ca-1.pem", "ca-2.pem"].map(|name| std::fs::read_to_string(pki.path(name)).unwrap());
    let prints: Vec<String> = files.iter().map(|pem| fingerprint(pem)).collect();
    for (name, print) in ["root", "devices", "services"].iter().zip(&prints) {
        let ours = std::fs::read_to_string(cloud.data().join(format!("ca/{name}.crt"))).unwrap();
        assert_eq!(*print, fingerprint(&ours), "{name}");
    }

    // The passcode with the device as user, and alone.
    for (device, user) in [("swan-01", "swan-01"), ("swan-02", "")] {
        pki.request(device, device).await;
        let proof = format!("{user}:{}", cloud.passcode(device).await);
        let enrolled = pki.enrol(device, &["--userpass", &proof]).await;
        assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
        let rows = certificates_of(&cloud, device).await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["fingerprint"], fingerprint(&pki.certificate(device)));
    }

    pki.request("next", "swan-01").await;
    let (certificate, key) = (pki.path("swan-01.pem"), pki.path("swan-01.key"));
    let renewed = pki.enrol("next", &["--cert", &certificate, "--key", &key]).await;
    assert_eq!(renewed.code, 0, "{}", renewed.stderr);
    let rows = certificates_of(&cloud, "swan-01").await;
    assert_eq!(rows.len(), 2);
    let successor =
        rows.iter().find(|row| row["fingerprint"] == fingerprint(&pki.certificate("next"))).unwrap();
    assert_eq!(successor["parent"], fingerprint(&pki.certificate("swan-01")));
}

#[tokio::test]
async fn strongswan_ends_with_1_where_it_is_refused() {
    let cloud = Cloud::start().await;
    let pki = Pki::new(&cloud);
    let passcode = cloud.passcode("swan-01").await;
    pki.request("swan-01", "swan-01").await;
    pki.request("other", "swan-02").await;
    let right = format!("swan-01:{passcode}");
    for (name, proof, status) in
        [("swan-01", "swan-01:wrong", 401), ("swan-01", ":wrong", 401), ("other", &right, 403)]
    {
        let refused = pki.enrol(name, &["--userpass", proof]).await;
        assert_eq!(refused.code, 1, "{proof}: {}", refused.stderr);
        assert!(refused.stderr.contains(&format!("HTTP {status}")), "{}", refused.stderr);
        assert_eq!(pki.certificate(name), "");
    }
    assert_eq!(certificates_of(&cloud, "swan-01").await.len(), 0);
    let control = pki.enrol("swan-01", &["--userpass", &right]).await;
    assert_eq!(control.code, 0, "the refusals burned nothing: {}", control.stderr);
    let stranger = Pki { root: pki.path("swan-01.pem"), ..pki };
    assert_ne!(
        stranger.enrol("swan-01", &["--userpass", &right]).await.code,
        0,
        "a client that trusts another CA"
    );
}
