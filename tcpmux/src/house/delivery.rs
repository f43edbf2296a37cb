//! How device tokens get to the daemons: by a call through the tunnel.

use std::{future::Future, pin::Pin, sync::Arc};

use cloud_gateway::{DeviceToken, TokenDelivery};
use model::{DeviceRef, RequestId};
use runtime::random;
use tcpmux_proto::{
    Dialer,
    agent::{AgentReply, AgentRequest, ask},
};

/// Calls the daemon.
pub(super) struct Delivery(pub(super) Arc<dyn Dialer>);

impl TokenDelivery for Delivery {
    fn deliver<'a>(
        &'a self,
        device: &'a DeviceRef,
        token: DeviceToken,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        let DeviceToken { token, expires_at, gateway } = token;
        let request = AgentRequest::DeviceToken { token, expires_at, gateway };
        Box::pin(async move {
            match ask(&*self.0, device, &request, RequestId::from_random(random::bytes())).await {
                Ok(AgentReply::Done) => Ok(()),
                Ok(AgentReply::Refused { reason }) => Err(reason),
                Ok(_) => Err("the daemon answered something else".into()),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}
