//! Messages on the control stream, and the typed stream that carries them.

use std::{
    fmt,
    future::poll_fn,
    io::IoSlice,
    marker::PhantomData,
    task::{Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use model::{DisconnectCause, Generation};
use serde::{Deserialize, Serialize};

use crate::{Hello, Refused, Welcome, pipe::Pipe, wire};

/// What a device says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DeviceMessage {
    /// The first message.
    Hello(Hello),
    /// Asks for a [`CloudMessage::Pong`] with the same number: proof through the whole node, not only the tunnel.
    Ping(Ping),
    /// Answers [`CloudMessage::Ping`].
    Pong(Ping),
    /// Am I registered, at which generation?
    StatusQuery,
    /// The device ends the session on purpose.
    Goodbye(Goodbye),
    /// A message of a newer peer; ignored.
    #[serde(other)]
    Unknown,
}

/// What the cloud says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CloudMessage {
    /// Takes the session.
    Welcome(Welcome),
    /// Does not take the session.
    Refused(Refused),
    /// Asks for a [`DeviceMessage::Pong`] with the same number.
    Ping(Ping),
    /// Answers [`DeviceMessage::Ping`].
    Pong(Ping),
    /// New streams go elsewhere; live ones finish.
    Drain(Drain),
    /// Another session of this device and slot took over.
    Replaced(Replaced),
    /// Answers [`DeviceMessage::StatusQuery`].
    Status(Status),
    /// The cloud ends the session on purpose.
    Goodbye(Goodbye),
    /// A message of a newer peer; ignored.
    #[serde(other)]
    Unknown,
}

/// A number to be sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Chosen by the asker.
    pub n: u64,
}

/// The node goes away: connect elsewhere now, live streams go on until the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// How long live streams may still go on.
    #[serde(rename = "deadline_ms", with = "wire::milliseconds")]
    pub deadline: Duration,
    /// How long to wait before the next connection, chosen by the cloud to spread its devices.
    #[serde(default, rename = "delay_ms", with = "wire::milliseconds")]
    pub delay: Duration,
}

/// A newer session of the same device and slot is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The generation that is served now.
    pub generation: Generation,
}

/// What the registry says of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether this session is the one that is served.
    pub registered: bool,
    /// The generation that the registry holds, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// Why the speaker ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// The cause; one that a newer peer knows reads as [`DisconnectCause::Closed`].
    #[serde(deserialize_with = "wire::known_cause")]
    pub cause: DisconnectCause,
}

/// Why the control stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A message longer than [`MAX_MESSAGE`].
    #[error("a control message of {0} bytes: at most {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    /// A message that is not the JSON it should be.
    #[error("a control message could not be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The peer ended the control stream, which lives as long as the session.
    #[error("the peer ended the control stream")]
    Ended,
    /// The tunnel is gone, or the peer reset the control stream.
    #[error("the control stream failed: {0}")]
    Stream(#[from] std::io::Error),
}

/// The control stream: sends messages of one type and receives those of the other.
///
/// Dropping it resets the control stream; end the session when that happens, it cannot be opened again.
pub struct Control<Receive, Send> {
    pipe: Pipe,
    partial: BytesMut,
    messages: PhantomData<fn(Send) -> Receive>,
}

/// The cloud's end of a control stream.
pub type CloudControl = Control<DeviceMessage, CloudMessage>;
/// The device's end of a control stream.
pub type DeviceControl = Control<CloudMessage, DeviceMessage>;

/// A message that one side sends.
pub trait Message: Serialize + for<'de> Deserialize<'de> {
    /// Whether this is a message of a newer peer.
    fn is_unknown(&self) -> bool;
}

impl Message for DeviceMessage {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

impl Message for CloudMessage {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

impl<R: Message, S: Message> Control<R, S> {
    pub(crate) fn new(pipe: Pipe) -> Self {
        Self { pipe, partial: BytesMut::new(), messages: PhantomData }
    }

    /// The next message; those of unknown type are skipped. Cancel safe.
    pub async fn receive(&mut self) -> Result<R, ControlError> {
        loop {
            let message: R = serde_json::from_slice(&self.next_text().await?)?;
            if !message.is_unknown() {
                return Ok(message);
            }
        }
    }

    /// Sends a message and waits until it is on its way to the socket, so that a close right after it does not
    /// overtake it. Cancel safe: a message is queued whole or not at all.
    pub async fn send(&mut self, message: &S) -> Result<(), ControlError> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_MESSAGE {
            return Err(ControlError::TooLong(text.len()));
        }
        let length = (text.len() as u16).to_be_bytes();
        let parts = [IoSlice::new(&length), IoSlice::new(&text)];
        // An empty queue has room for the longest message.
        poll_fn(|cx| self.pipe.poll_drained(cx)).await?;
        poll_fn(|cx| self.pipe.poll_write(cx, &mut Bytes::new(), &parts)).await?;
        poll_fn(|cx| self.pipe.poll_drained(cx)).await?;
        Ok(())
    }

    async fn next_text(&mut self) -> Result<Bytes, ControlError> {
        loop {
            if let Some((length, text)) = self.partial.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if length > MAX_MESSAGE {
                    return Err(ControlError::TooLong(length));
                }
                if text.len() >= length {
                    let text = self.partial.split_to(2 + length).freeze().slice(2..);
                    if self.partial.is_empty() {
                        self.partial = BytesMut::new();
                    }
                    return Ok(text);
                }
            }
            let (pipe, partial) = (&mut self.pipe, &mut self.partial);
            poll_fn(|cx| {
                let bytes = ready!(pipe.poll_fill(cx))?;
                let count = bytes.len().min(MAX_MESSAGE);
                if count == 0 {
                    return Poll::Ready(Err(ControlError::Ended));
                }
                partial.extend_from_slice(&bytes[..count]);
                pipe.consume(count);
                Poll::Ready(Ok(()))
            })
            .await?;
        }
    }
}

impl<R, S> fmt::Debug for Control<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// The longest control message, in bytes of JSON.
pub const MAX_MESSAGE: usize = 16 * 1024;
