//! The certified `oidc-provider` of npm: a sign-in provider that nobody here wrote, run by node.

use std::{process::Command, time::Duration};

use crate::{Browser, Page, Process, eventually_within, workspace};

/// A provider that runs until it is dropped. Its clients are `web` (with a secret) and `cli` (public).
#[derive(Debug)]
pub struct OidcProvider {
    process: Process,
    issuer: String,
    redirect_uri: String,
    id_token_seconds: u32,
}

impl OidcProvider {
    /// Starts it for a cloud that takes browsers back at this address.
    ///
    /// # Panics
    /// If the package is not installed: `./scripts/test` does that.
    pub async fn start(redirect_uri: &str) -> Self {
        Self::with_identity_tokens_of(redirect_uri, 600).await
    }

    /// The same with identity tokens that live this long.
    ///
    /// # Panics
    /// As [`OidcProvider::start`].
    pub async fn with_identity_tokens_of(redirect_uri: &str, seconds: u32) -> Self {
        let mut process = launch(0, redirect_uri, seconds);
        let issuer = issuer(&mut process).await;
        Self { process, issuer, redirect_uri: redirect_uri.into(), id_token_seconds: seconds }
    }

    /// Its issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The configuration of a cloud that believes it, for browsers and the command line.
    pub fn config(&self) -> String {
        format!(
            "[[oidc]]\nname = \"idp\"\nissuer = \"{}\"\naudience = \"tcpmux\"\ntenant = \"default\"\nclient_id = \"web\"\nclient_secret = \"s3cret & more\"\ncli_client_id = \"cli\"\n",
            self.issuer
        )
    }

    /// Ends it; nothing answers at its address then.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address after [`OidcProvider::stop`], with new keys and without memory.
    pub async fn start_again(&mut self) {
        let port = self.issuer.rsplit(':').next().expect("it names a port").parse().expect("a number");
        self.process = launch(port, &self.redirect_uri, self.id_token_seconds);
        assert_eq!(issuer(&mut self.process).await, self.issuer);
    }

    /// Goes through its pages as this person, who agrees to everything, until it sends the browser elsewhere or has
    /// no more to ask.
    pub async fn agree(&self, browser: &mut Browser, mut page: Page, person: &str) -> Page {
        for _ in 0..8 {
            let is_here = page.url.as_str().starts_with(&self.issuer);
            if !is_here || !page.text.contains("<form") {
                return page;
            }
            let is_login = page.text.contains("name=\"login\"");
            let fields = [("login", person), ("password", "any")];
            page = browser.submit(&page, if is_login { &fields } else { &[] }).await;
        }
        panic!("it asks without end, last {}: {}", page.url, page.text);
    }
}

fn launch(port: u16, redirect_uri: &str, id_token_seconds: u32) -> Process {
    let package = workspace().join("target/oidc-provider/node_modules/oidc-provider/lib/index.js");
    assert!(package.exists(), "{} is missing; ./scripts/test installs it", package.display());
    let mut command = Command::new("node");
    command
        .arg(workspace().join("tests/oidc_provider/provider.mjs"))
        .env("OIDC_PROVIDER", package)
        .env("OIDC_SCENE", serde_json::json!({"port": port, "redirect_uri": redirect_uri}).to_string())
        .env("OIDC_ID_TOKEN_SECONDS", id_token_seconds.to_string());
    Process::start("oidc-provider", command)
}

async fn issuer(process: &mut Process) -> String {
    eventually_within(Duration::from_secs(60), "the provider listens", || {
        let ended = process.ended();
        let log = process.log();
        assert!(ended.is_none(), "the provider ended with {ended:?}: {log}");
        let told = log.lines().find_map(|line| line.strip_prefix("ISSUER ").map(str::to_owned));
        async move { told.ok_or(log) }
    })
    .await
}
