//! Brings what waits in the spool to the device gateway: in order, each item until the cloud has said what became
//! of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use model::{LARGEST_ITEM, LARGEST_REPORT, ReportKind, Secret};
use runtime::Backoff;
use tokio::sync::Notify;

use crate::{
    DaemonConfig, HttpsError, Identity, StateError, TrustedTime,
    https::{Answer, Connection},
    report::{ItemResult, Results},
    spool::{BatchLimits, Record, SpoolKeeper},
    trust,
};

/// The token of the device gateway that the cloud pushed last. It is in memory alone.
#[derive(Debug, Default)]
pub(crate) struct TokenHolder {
    token: Mutex<Option<Secret<String>>>,
    changed: Notify,
}

impl TokenHolder {
    /// Takes a newer token in place of the one there is.
    pub(crate) fn put(&self, token: Secret<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        self.changed.notify_one();
    }

    fn bearer(&self) -> Option<Secret<String>> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map(|token| Secret::new(format!("Bearer {}", token.expose())))
    }

    /// The cloud does not take it any more.
    fn forget(&self, refused: &Secret<String>) {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.take_if(|held| refused.expose().strip_prefix("Bearer ") == Some(held.expose()));
    }
}

/// Uploads until the process ends.
pub(crate) struct Uplink {
    pub(crate) config: DaemonConfig,
    pub(crate) time: TrustedTime,
    pub(crate) spool: SpoolKeeper,
    pub(crate) tokens: Arc<TokenHolder>,
}

/// A connection and what it proves.
struct Channel {
    connection: Connection,
    /// None: it shows the certificate.
    bearer: Option<Secret<String>>,
}

/// Why a batch is not with the cloud.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Https(#[from] HttpsError),
    #[error(transparent)]
    Identity(#[from] StateError),
    #[error("the spool cannot be read or written: {0}")]
    Spool(#[from] std::io::Error),
    #[error("the cloud answered {status}: {text}")]
    Refused { status: StatusCode, text: String, retry_after: Option<Duration> },
    #[error("the cloud's answer does not tell what became of the items")]
    Answer,
}

/// What became of a batch.
enum Outcome {
    /// The cloud has spoken on so many of its items; so many of those were refused for good.
    Settled { items: usize, dropped: usize },
    /// It is too much, or something in it is wrong: less of it has to be tried.
    TooMuch { status: StatusCode, text: String },
    /// The token is not good any more.
    TokenRefused,
}

impl Uplink {
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            match self.upload_all(&mut backoff).await {
                Ok(()) => self.spool.news().await,
                Err(error) => {
                    let asked = match &error {
                        UploadError::Refused { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    // The server's word, and a little more, so that a fleet does not come back as one.
                    let asked =
                        asked.map(|asked| asked.min(LONGEST_ASKED) + FIRST_DELAY.mul_f64(fastrand::f64()));
                    let delay = asked.unwrap_or_else(|| backoff.next_delay());
                    tracing::warn!(%error, delay_s = delay.as_secs_f32(), "reports wait for the cloud");
                    self.spool.uploaded(Err(error.to_string()));
                    let delayed = tokio::time::sleep(delay);
                    tokio::select! {
                        () = delayed => {}
                        // A new token: the cloud can be reached again. What it asked for still counts.
                        () = self.tokens.changed.notified(), if asked.is_none() => {}
                    }
                }
            }
        }
    }

    /// Until nothing waits. A connection is kept for what comes soon after.
    async fn upload_all(&self, backoff: &mut Backoff) -> Result<(), UploadError> {
        let mut channel: Option<Channel> = None;
        let mut most = BATCH;
        loop {
            let batch = self.spool.peek(most).await?;
            let Some(first) = batch.first() else {
                if channel.is_none() {
                    return Ok(());
                }
                match tokio::time::timeout(KEPT, self.spool.news()).await {
                    Ok(()) => continue,
                    Err(_) => return Ok(()),
                }
            };
            let kind = first.kind;
            let kept = channel.take();
            let was_kept = kept.is_some();
            let open = match kept {
                Some(open) => open,
                None => self.open().await?,
            };
            let (open, outcome) = match self.send(open, kind, &batch).await {
                // The server may end a connection that was kept, at any time; a new one tells more.
                Err(UploadError::Https(HttpsError::Broken { .. })) if was_kept => continue,
                sent => sent?,
            };
            match outcome {
                Outcome::Settled { items, dropped } => {
                    let settled: Vec<Record> = batch.into_iter().take(items).collect();
                    self.settle(settled, dropped as u64).await;
                    self.spool.uploaded(Ok(()));
                    backoff.reset();
                    most = BATCH;
                    channel = Some(open);
                }
                Outcome::TooMuch { status, text } if batch.len() == 1 => {
                    tracing::warn!(%status, text, "an item that the cloud will never take was dropped");
                    self.settle(batch, 1).await;
                    most = BATCH;
                    channel = Some(open);
                }
                Outcome::TooMuch { .. } => {
                    most.items = batch.len() / 2;
                    channel = Some(open);
                }
                Outcome::TokenRefused => {
                    if let Some(bearer) = &open.bearer {
                        self.tokens.forget(bearer);
                    }
                }
            }
        }
    }

    async fn settle(&self, batch: Vec<Record>, dropped: u64) {
        if let Err(error) = self.spool.acknowledge(batch, dropped).await {
            // It counts for this run; the next one may send some again, and the cloud knows their ids.
            tracing::warn!(%error, "it was not noted on disk what the cloud has");
        }
    }

    async fn open(&self) -> Result<Channel, UploadError> {
        let identity: Identity = self.config.identity()?;
        let bearer = self.tokens.bearer();
        let shown = if bearer.is_none() { Some(&identity) } else { None };
        let tls = trust::verified_http(&identity.anchors, shown, &self.time);
        let connection = Connection::open(&identity.server, &self.config.way_out, tls).await?;
        Ok(Channel { connection, bearer })
    }

    async fn send(
        &self,
        mut channel: Channel,
        kind: ReportKind,
        batch: &[Record],
    ) -> Result<(Channel, Outcome), UploadError> {
        let path = format!("/device/v1/{}", kind.plural());
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(bearer) = &channel.bearer {
            request = request.header(header::AUTHORIZATION, bearer.expose());
        }
        let request = request.body(Full::new(body(batch))).map_err(|_| UploadError::Answer)?;
        let answer = channel.connection.exchange(request).await?;
        let outcome = Self::outcome(&answer, batch, channel.bearer.is_some())?;
        Ok((channel, outcome))
    }

    fn outcome(answer: &Answer, batch: &[Record], by_token: bool) -> Result<Outcome, UploadError> {
        match answer.status {
            StatusCode::OK => {
                let Results { mut results } =
                    serde_json::from_slice(&answer.body).map_err(|_| UploadError::Answer)?;
                results.truncate(batch.len());
                if results.is_empty() {
                    return Err(UploadError::Answer);
                }
                let mut dropped = 0;
                for (result, record) in results.iter().zip(batch) {
                    if let ItemResult::Rejected { code, detail } = result {
                        let sequence = record.sequence;
                        tracing::warn!(
                            sequence,
                            code,
                            detail,
                            "the cloud refused an item for good; it was dropped"
                        );
                        dropped += 1;
                    }
                }
                Ok(Outcome::Settled { items: results.len(), dropped })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if by_token => Ok(Outcome::TokenRefused),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Outcome::TooMuch { status: answer.status, text: answer.first_line() })
            }
            status => {
                let (text, retry_after) = (answer.first_line(), answer.retry_after());
                Err(UploadError::Refused { status, text, retry_after })
            }
        }
    }
}

/// A JSON array of what the records hold.
fn body(batch: &[Record]) -> Bytes {
    let mut body = vec![b'['];
    for (index, record) in batch.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend(&record.json);
    }
    body.push(b']');
    body.into()
}

/// Less than the cloud takes at once, so that no batch fails for its size.
const BATCH: BatchLimits = BatchLimits { items: 250, bytes: LARGEST_REPORT - LARGEST_ITEM };
/// The server keeps an idle connection for ten seconds.
const KEPT: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const LONGEST_ASKED: Duration = Duration::from_secs(600);
