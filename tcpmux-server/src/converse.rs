//! What is said on a session's control stream, and how a session ends.
//!
//! Liveness is the multiplexer's matter. Here: answers to the device, the notice to go elsewhere, and
//! a named end.

use std::{pin::pin, time::Duration};

use model::{DeviceRef, DisconnectCause, Generation};
use registry::NotAdmitted;
use tcpmux_proto::{
    CloudControl, CloudMessage, ControlError, DeviceMessage, Drain, Goodbye, Replaced, SessionHandle, Status,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{TunnelServer, drain::Plan, sessions::Order};

/// One session's control stream, as long as the session lives.
pub(crate) struct Conversation<'a> {
    pub(crate) server: &'a TunnelServer,
    pub(crate) device: &'a DeviceRef,
    pub(crate) generation: Generation,
    pub(crate) handle: &'a SessionHandle,
}

/// Why a conversation is over.
enum Over {
    /// Told so from inside this process.
    Ordered(Order),
    /// The device said goodbye.
    Goodbye,
    /// The device broke the protocol.
    Broken(String),
    /// The session is gone, or going: there is nobody to speak to.
    Gone,
}

impl Conversation<'_> {
    /// Holds the conversation and ends the session with it. Returns the cause that counts.
    pub(crate) async fn hold(
        &self,
        mut control: CloudControl,
        orders: oneshot::Receiver<Order>,
    ) -> DisconnectCause {
        let over = tokio::select! {
            biased;
            order = orders => order.map_or(Over::Gone, Over::Ordered),
            _ = self.handle.closed() => Over::Gone,
            over = self.talk(&mut control) => over,
        };
        Box::pin(self.end(over, control)).await
    }

    async fn end(&self, over: Over, mut control: CloudControl) -> DisconnectCause {
        let ours = match over {
            Over::Ordered(Order::Replaced(generation)) => {
                let message = CloudMessage::Replaced(Replaced { generation });
                part(self.handle, &mut control, &message, DisconnectCause::Replaced).await;
                Some(DisconnectCause::Replaced)
            }
            Over::Ordered(Order::End(cause)) => {
                part(self.handle, &mut control, &goodbye(cause), cause).await;
                Some(cause)
            }
            Over::Goodbye => {
                self.handle.close(DisconnectCause::Closed);
                Some(DisconnectCause::Closed)
            }
            Over::Broken(reason) => {
                tracing::info!(device = %self.device, reason, "device broke the protocol");
                let cause = DisconnectCause::Protocol;
                part(self.handle, &mut control, &goodbye(cause), cause).await;
                Some(cause)
            }
            Over::Gone => {
                // The first cause counts: if the driver knows a better one, it has said so already.
                self.handle.close(DisconnectCause::Lost);
                None
            }
        };
        let cause = self.handle.closed().await;
        // A device that hangs up on hearing why it has to go was not lost.
        ours.unwrap_or(cause)
    }

    /// Answers the device until it or the server leaves.
    async fn talk(&self, control: &mut CloudControl) -> Over {
        let mut draining = self.server.draining.subscribe();
        let mut allowance = Allowance::new(Instant::now());
        let plan = loop {
            let message = tokio::select! {
                message = control.receive() => message,
                plan = draining.wait_for(Option::is_some) => break plan.ok().and_then(|plan| *plan),
            };
            if let Err(over) = Box::pin(self.answer(message, control, &mut allowance)).await {
                return over;
            }
        };
        match plan {
            Some(plan) => Box::pin(self.leave(plan, control, allowance)).await,
            None => Over::Gone,
        }
    }

    /// Asks the device to go elsewhere and answers it until it has gone.
    async fn leave(&self, plan: Plan, control: &mut CloudControl, mut allowance: Allowance) -> Over {
        let delay = plan.delay();
        if control.send(&CloudMessage::Drain(Drain { deadline: plan.left(), delay })).await.is_err() {
            return Over::Gone;
        }
        self.handle.drain();
        let mut departed = pin!(self.depart(plan, delay));
        loop {
            let message = tokio::select! {
                message = control.receive() => message,
                () = &mut departed => return Over::Ordered(Order::End(DisconnectCause::Draining)),
            };
            if let Err(over) = Box::pin(self.answer(message, control, &mut allowance)).await {
                return over;
            }
        }
    }

    async fn answer(
        &self,
        message: Result<DeviceMessage, ControlError>,
        control: &mut CloudControl,
        allowance: &mut Allowance,
    ) -> Result<(), Over> {
        let message = message.map_err(over)?;
        if !allowance.spend(Instant::now()) {
            return Err(Over::Broken("too many control messages".into()));
        }
        let answer = match message {
            DeviceMessage::Ping(ping) => CloudMessage::Pong(ping),
            DeviceMessage::StatusQuery => CloudMessage::Status(self.status().await),
            DeviceMessage::Goodbye(_) => return Err(Over::Goodbye),
            DeviceMessage::Hello(_) => return Err(Over::Broken("a second hello".into())),
            DeviceMessage::Pong(_) | DeviceMessage::Unknown => return Ok(()),
        };
        control.send(&answer).await.map_err(over)
    }

    async fn status(&self) -> Status {
        let standing = self.server.registry.lookup(self.device).await.map(|record| record.generation);
        Status { registered: standing == Some(self.generation), generation: standing }
    }

    /// Waits until the device had time to go elsewhere and its streams have ended, at most to the
    /// plan's deadline.
    async fn depart(&self, plan: Plan, delay: Duration) {
        let idle = async {
            tokio::time::sleep(delay).await;
            self.handle.idle().await;
        };
        // At the deadline streams that still live are cut.
        let _ = tokio::time::timeout_at(plan.deadline, idle).await;
    }
}

/// Says a last word, if it still can be said quickly, and ends the session.
pub(crate) async fn part(
    handle: &SessionHandle,
    control: &mut CloudControl,
    message: &CloudMessage,
    cause: DisconnectCause,
) {
    let last_word = timeout(LAST_WORD, control.send(message));
    tokio::select! {
        _ = last_word => {}
        _ = handle.closed() => {}
    }
    handle.close(cause);
}

/// The last word for a cause.
pub(crate) fn goodbye(cause: DisconnectCause) -> CloudMessage {
    CloudMessage::Goodbye(Goodbye { cause })
}

/// The cause by which a session ends whose certificate is not admitted any more.
pub(crate) fn cause_of(no: NotAdmitted) -> DisconnectCause {
    match no {
        NotAdmitted::Expired => DisconnectCause::Expired,
        NotAdmitted::Retired => DisconnectCause::Replaced,
        NotAdmitted::Unread => DisconnectCause::Closed,
        NotAdmitted::Unknown
        | NotAdmitted::OtherDevice
        | NotAdmitted::Pending
        | NotAdmitted::Revoked
        | NotAdmitted::Tenant => DisconnectCause::Revoked,
    }
}

fn over(error: ControlError) -> Over {
    match error {
        ControlError::Stream(_) => Over::Gone,
        ControlError::Ended | ControlError::TooLong(_) | ControlError::Malformed(_) => {
            Over::Broken(error.to_string())
        }
    }
}

/// How many messages a device may still send in this minute.
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: MESSAGES_A_MINUTE, since: now }
    }

    fn spend(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(60) {
            *self = Self::new(now);
        }
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

/// A daemon in good health sends a handful.
const MESSAGES_A_MINUTE: u32 = 240;
/// A last word must not hold up an end.
const LAST_WORD: Duration = Duration::from_millis(200);
