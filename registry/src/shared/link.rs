//! The connection to the shared registry, and whether it can be used.
//!
//! Every question has a short limit, and while the link is down none is asked: whoever calls goes on with
//! what this node knows. One task ([`super::keeping`]) brings the link up again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, FromRedisValue, ScriptInvocation, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::RedisAddress;

/// Why nothing was asked or answered, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Away(pub(crate) String);

pub(super) struct Link {
    client: Client,
    state: Mutex<State>,
    up: watch::Sender<bool>,
    /// Wakes the keeper before its time.
    doubt: Notify,
}

enum State {
    Up(MultiplexedConnection),
    Down(Away),
}

impl Link {
    pub(super) fn new(address: &RedisAddress) -> Result<Self, String> {
        let client = address.client().map_err(|error| reason(&error))?;
        let state = Mutex::new(State::Down(Away("it was not reached yet".into())));
        Ok(Self { client, state, up: watch::channel(false).0, doubt: Notify::new() })
    }

    /// A connection of its own. `patience`: the longest that an answer may take.
    pub(super) async fn dial(&self, patience: Duration) -> Result<MultiplexedConnection, Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(patience))
            .set_pipeline_buffer_size(CALLS_QUEUED);
        let dialling = self.client.get_multiplexed_async_connection_with_config(&config);
        match timeout(ANSWER_WITHIN, dialling).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Away(reason(&error))),
            Err(_) => Err(silent()),
        }
    }

    /// Runs a script, if the link is up.
    pub(super) async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Away> {
        let mut connection = self.connection()?;
        self.judge(timeout(ANSWER_WITHIN, script.invoke_async(&mut connection)).await)
    }

    /// Sends a pipeline, if the link is up.
    pub(super) async fn send<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, Away> {
        let mut connection = self.connection()?;
        self.judge(timeout(ANSWER_WITHIN, pipeline.query_async(&mut connection)).await)
    }

    fn judge<T, E>(&self, outcome: Result<redis::RedisResult<T>, E>) -> Result<T, Away> {
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let away = Away(reason(&error));
                if error.is_io_error() || error.is_unrecoverable_error() || error.is_timeout() {
                    self.down(away.clone());
                }
                // An answer that is a no, as of a server that may not be written, is for the keeper to judge.
                self.doubt.notify_one();
                Err(away)
            }
            Err(_) => {
                self.down(silent());
                Err(silent())
            }
        }
    }

    pub(super) fn connection(&self) -> Result<MultiplexedConnection, Away> {
        match &*self.state() {
            State::Up(connection) => Ok(connection.clone()),
            State::Down(away) => Err(away.clone()),
        }
    }

    pub(super) fn up(&self, connection: MultiplexedConnection) {
        *self.state() = State::Up(connection);
        self.up.send_replace(true);
    }

    pub(super) fn down(&self, why: Away) {
        *self.state() = State::Down(why);
        self.up.send_replace(false);
        self.doubt.notify_one();
    }

    /// Why it is down; `None` while it is up.
    pub(super) fn problem(&self) -> Option<String> {
        match &*self.state() {
            State::Up(_) => None,
            State::Down(Away(why)) => Some(why.clone()),
        }
    }

    /// Waits until the link is up.
    pub(super) async fn wait_up(&self) {
        // The sender lives in `self`: this cannot fail.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    /// Waits until somebody doubts that the link is well.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("problem", &self.problem()).finish_non_exhaustive()
    }
}

/// What an error says, without what was asked.
pub(super) fn reason(error: &redis::RedisError) -> String {
    if error.is_timeout() {
        return silent().0;
    }
    let detail = error.detail().unwrap_or_default();
    let text = match error.code() {
        Some(code) => format!("it answers {code} {detail}"),
        None => error.to_string(),
    };
    let remedy = if text.contains("invalid peer certificate") { UNTRUSTED } else { "" };
    let text = format!("{remedy}{text}");
    text.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim_end().to_owned()
}

fn silent() -> Away {
    Away(format!("it does not answer within {} s", ANSWER_WITHIN.as_secs()))
}

const UNTRUSTED: &str = "its certificate is not believed (registry_ca names the file of its CA): ";
/// How long anybody waits for the shared registry.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const CALLS_QUEUED: usize = 1024;
