//! The ways out to people: `client-api` asks, the room of keys signs, and what may be called is the operator's word.

use std::{pin::Pin, sync::Arc};

use client_api::{Outlets, Push, PushSender, WebhookSigner};
use cloud_gateway::{PushAccount, WebhookSecrets};
use http::HeaderValue;
use model::{Secret, WebhookId};
use runtime::{
    Clock,
    http::{Destinations, Outbound, SystemResolver, client_trusting},
};

use super::misconfigured;
use crate::{config::Config, data::DataDirectory, exit::Failure};

/// What the configuration allows. The key of webhook secrets is made at the first start.
pub(super) fn outlets(config: &Config, data: &DataDirectory, clock: &Clock) -> Result<Outlets, Failure> {
    let secrets = WebhookSecrets::load_or_create(&data.path().join("webhooks.key")).map_err(misconfigured)?;
    let client = client_trusting(config.webhooks.ca.as_deref()).map_err(misconfigured)?;
    let destinations = Destinations::allowing(config.webhooks.allow.iter().copied());
    let push = match &config.fcm {
        None => None,
        Some(fcm) => {
            let client = client_trusting(None).map_err(misconfigured)?;
            let account = PushAccount::load(&fcm.credentials_file, client.clone(), clock.clone());
            let sender = Arc::new(Sender(account.map_err(misconfigured)?));
            Some(Push { sender, client, url: fcm.url.trim_end_matches('/').to_owned() })
        }
    };
    Ok(Outlets {
        signer: Arc::new(Signer(secrets)),
        outbound: Outbound::new(client, destinations, Arc::new(SystemResolver)),
        push,
    })
}

/// Secrets of webhooks are the room of keys' own.
struct Signer(WebhookSecrets);

impl WebhookSigner for Signer {
    fn make(&self, webhook: &WebhookId) -> (Secret<String>, Vec<u8>) {
        let made = self.0.make(webhook.as_str());
        (made.shown, made.sealed)
    }

    fn sign(
        &self,
        webhook: &str,
        sealed: &[Vec<u8>],
        message: &str,
        seconds: i64,
        body: &[u8],
    ) -> Result<String, String> {
        let sealed: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
        self.0.sign(webhook, &sealed, message, seconds, body).map_err(|error| error.to_string())
    }
}

/// So is the account that sends push messages.
struct Sender(PushAccount);

impl PushSender for Sender {
    fn project(&self) -> &str {
        self.0.project()
    }

    fn authorization<'a>(
        &'a self,
        refused: Option<&'a HeaderValue>,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, String>> + Send + 'a>> {
        Box::pin(async move { self.0.authorization(refused).await.map_err(|error| error.to_string()) })
    }
}
