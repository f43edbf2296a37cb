//! What needs a secret is asked for through these seams: this room holds none.

use std::{pin::Pin, sync::Arc};

use http::HeaderValue;
use model::{Secret, WebhookId};
use runtime::http::{HttpClient, Outbound};

/// Makes secrets of webhooks and signs with them. What this room keeps of a secret is sealed.
pub trait WebhookSigner: Send + Sync + 'static {
    /// A new secret for this webhook: what its owner is shown once, and what is kept.
    fn make(&self, webhook: &WebhookId) -> (Secret<String>, Vec<u8>);

    /// The value of `webhook-signature` (Standard Webhooks) by each of these sealed secrets.
    ///
    /// # Errors
    /// A sentence for the webhook's owner if one does not open.
    fn sign(
        &self,
        webhook: &str,
        sealed: &[Vec<u8>],
        message: &str,
        seconds: i64,
        body: &[u8],
    ) -> Result<String, String>;
}

/// The account that sends push messages.
pub trait PushSender: Send + Sync + 'static {
    /// The project whose apps it sends to.
    fn project(&self) -> &str;

    /// The `Authorization` header for a call. `refused` is one that was refused: another is got then.
    ///
    /// # Errors
    /// A sentence for the log if there is none to be had.
    fn authorization<'a>(
        &'a self,
        refused: Option<&'a HeaderValue>,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, String>> + Send + 'a>>;
}

/// The ways out to people.
#[derive(Clone)]
pub struct Outlets {
    /// Signs for webhooks.
    pub signer: Arc<dyn WebhookSigner>,
    /// Calls them.
    pub outbound: Outbound,
    /// Sends push messages; absent where no account is configured.
    pub push: Option<Push>,
}

/// The way to apps.
#[derive(Clone)]
pub struct Push {
    /// The account.
    pub sender: Arc<dyn PushSender>,
    /// Calls the service.
    pub client: HttpClient,
    /// The service's address, as in `https://fcm.googleapis.com`.
    pub url: String,
}
