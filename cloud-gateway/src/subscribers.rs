//! People who listen to events: by their provider's token, by a proxy token of ours, or by a ticket.
//!
//! What is proven here can only narrow what the person's grants allow at any moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::Request;
use http::{Uri, header::UPGRADE, uri::PathAndQuery};
use model::{
    Code, DeviceId, DoorKey, Grant, Level, Refusal, ServiceSet, SubscriberActor, TenantName, Ticket,
    TicketDigest, TicketRecord, Timestamp, UserId,
};
use registry::Registry;
use runtime::{
    Clock,
    http::query,
    jose::{Expectations, KeySet, TypRule, UnverifiedToken},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{AUDIENCE, authorizer::Authorizer, users::Users};

/// What proves a subscriber, beside the users' own tokens.
#[derive(Debug)]
pub(crate) struct Subscribers {
    issuer: String,
    keys: Arc<KeySet>,
    registry: Registry,
    clock: Clock,
    door_key: DoorKey,
}

/// What a proxy token of ours says, beside who signed it for whom.
#[derive(Debug, Deserialize)]
struct Members {
    tenant: TenantName,
    gv: u64,
    until: i64,
    devices: BTreeMap<DeviceId, Grant>,
}

#[derive(Debug, Deserialize)]
struct WithTicket {
    ticket: Option<String>,
}

impl Subscribers {
    pub(crate) fn new(authorizer: &Authorizer, registry: Registry, clock: Clock, door_key: DoorKey) -> Self {
        let (issuer, keys) = (authorizer.issuer().to_owned(), Arc::clone(authorizer.keys()));
        Self { issuer, keys, registry, clock, door_key }
    }

    /// The subscriber of a bearer token, whose issuer says which kind it is.
    pub(crate) async fn of_token(&self, users: &Users, token: &str) -> Result<SubscriberActor, Refusal> {
        let unverified = UnverifiedToken::read(token)?;
        if unverified.issuer() == self.issuer {
            return self.of_proxy_token(&unverified);
        }
        let (user, until) = users.prove_with_end(token).await?;
        let (tenant, user) = (user.tenant().clone(), user.user().clone());
        Ok(SubscriberActor::new(&self.door_key, tenant, user, None, None, until))
    }

    fn of_proxy_token(&self, token: &UnverifiedToken<'_>) -> Result<SubscriberActor, Refusal> {
        let now = self.clock.now();
        let expected = Expectations {
            issuer: &self.issuer,
            audience: AUDIENCE,
            typ: TypRule::AccessToken,
            now,
            leeway: Duration::ZERO,
        };
        let body = token.verify(&self.keys, &expected)?;
        let nobody =
            || Refusal::new(Code::NotGranted, "this token was made for an operator, not for a person");
        let user: UserId = body.subject.parse().map_err(|_| nobody())?;
        let members: Members = serde_json::from_value(Value::Object(body.members)).map_err(|error| {
            // Only our own signer's tokens come here, so that this is a fault of ours.
            tracing::error!(%error, "a proxy token of our own cannot be read");
            Refusal::new(Code::Internal, "something here is broken; the server's log says what")
        })?;
        let until = Timestamp::from_secs(members.until);
        let Members { tenant, gv, devices, .. } = members;
        Ok(SubscriberActor::new(&self.door_key, tenant, user, Some(devices), Some(gv), until))
    }

    /// Takes the ticket of a request that opens a WebSocket, which then nobody else can, and takes it out of the
    /// request.
    pub(crate) async fn of_ticket(&self, request: &mut Request) -> Result<SubscriberActor, Refusal> {
        let is_websocket = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        if !is_websocket.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
            let said = "this address is for WebSockets; open one with HTTP/1.1";
            return Err(Refusal::new(Code::BadRequest, said).with_status(426));
        }
        let WithTicket { ticket } = query(request.uri())?;
        let missing = || Refusal::new(Code::TokenMissing, "open it with ?ticket= of POST /v1/tickets");
        let ticket = ticket.ok_or_else(missing)?;
        *request.uri_mut() = without_ticket(request.uri());
        let record = self.take(&ticket).await?;
        Ok(self.actor(record))
    }

    async fn take(&self, ticket: &str) -> Result<TicketRecord, Refusal> {
        let refused = || {
            Refusal::new(Code::TokenUnknownKey, "this ticket is unknown, used or expired; ask for another")
        };
        let ticket: Ticket = ticket.parse().map_err(|_| refused())?;
        let taken = self.registry.take_ticket(&digest_of(&ticket), self.clock.now()).await?;
        let record = taken.ok_or_else(refused)?;
        let changed = record
            .device
            .as_ref()
            .and_then(|device| self.registry.grants().last_change(&record.tenant, &record.user, device));
        if changed.is_some_and(|changed| changed > record.grant_sequence) {
            return Err(refused());
        }
        Ok(record)
    }

    fn actor(&self, record: TicketRecord) -> SubscriberActor {
        let limited = |device| {
            let level = record.level.unwrap_or(Level::Viewer);
            (device, Grant { level, services: ServiceSet::all(), until: None })
        };
        let devices = match (record.device, record.only) {
            (Some(device), _) => Some(BTreeMap::from([limited(device)])),
            (None, Some(only)) => Some(only.into_iter().map(limited).collect()),
            (None, None) => None,
        };
        let sequence = Some(record.grant_sequence);
        SubscriberActor::new(&self.door_key, record.tenant, record.user, devices, sequence, record.until)
    }
}

/// What is kept of a ticket.
pub(crate) fn digest_of(ticket: &Ticket) -> TicketDigest {
    let digest = digest(&SHA256, ticket.secret_bytes());
    TicketDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The same address without its `ticket=`; what else it says stays as it was written.
fn without_ticket(uri: &Uri) -> Uri {
    let pieces = uri.query().unwrap_or_default().split('&');
    let kept: Vec<&str> = pieces.filter(|piece| !piece.starts_with("ticket=")).collect();
    let path = format!("{}?{}", uri.path(), kept.join("&"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok().or(Some(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticket_goes_and_the_rest_stays() {
        for (uri, rest) in [
            ("/v1/topics/a.b?ticket=00&where=t=gte:20;", "/v1/topics/a.b?where=t=gte:20;"),
            ("https://c/v1/topics/a.b?fields=a%2Fb&ticket=00", "https://c/v1/topics/a.b?fields=a%2Fb"),
            ("/v1/topics/a.b?ticket=00", "/v1/topics/a.b?"),
        ] {
            assert_eq!(without_ticket(&uri.parse().unwrap()).to_string(), rest, "{uri}");
        }
    }
}
