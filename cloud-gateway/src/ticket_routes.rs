//! `POST /v1/tickets`: the single-use key to one WebSocket, for clients that cannot send a header there.

use std::{sync::Arc, time::Duration};

use axum::{Extension, body::Body, extract::Request, response::Response};
use http::StatusCode;
use model::{
    Code, DeviceId, Grant, Refusal, ServiceName, ServiceSet, SubscriberActor, Ticket, TicketPurpose,
    TicketRecord, Timestamp,
};
use registry::Registry;
use runtime::{
    Clock,
    http::{Absent, Caller, Refused, Routes, Unproven, answer, json_body, problem},
    random,
};
use serde::{Deserialize, Serialize};
use store::Store;
use utoipa::ToSchema;

use crate::subscribers::digest_of;

/// What issuing a ticket needs.
#[derive(Debug, Clone)]
struct Desk {
    store: Store,
    registry: Registry,
    clock: Clock,
}

/// `POST /v1/tickets`.
pub(crate) fn user_routes(store: &Store, registry: &Registry, clock: &Clock) -> Routes {
    let desk = Arc::new(Desk { store: store.clone(), registry: registry.clone(), clock: clock.clone() });
    let handler = move |Extension(subscriber): Extension<SubscriberActor>, request: Request| {
        let desk = Arc::clone(&desk);
        async move {
            let issued = issue(&desk, &subscriber, request.into_body()).await;
            issued.unwrap_or_else(|refusal| problem(&refusal))
        }
    };
    Routes::new().post("/v1/tickets", Caller::Subscriber, handler)
}

/// What a ticket is to open.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"device": "cam-01", "service": "web"}))]
struct Asked {
    /// For what is told of this device alone; otherwise of all that you may reach.
    #[schema(value_type = Option<String>, max_length = 63)]
    device: Option<DeviceId>,
    /// For a WebSocket to this service of the device, too.
    #[schema(value_type = Option<String>, max_length = 32)]
    service: Option<ServiceName>,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket, example = json!({
    "ticket": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "expires_at": "2026-11-21T21:32:00Z",
}))]
struct Issued {
    /// To be used once, as `?ticket=` of a WebSocket's address.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    ticket: String,
    /// When it opens nothing any more.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A ticket for one WebSocket
///
/// It opens `/v1/topics/{topic}`; one for a device and service opens a WebSocket there, too. It is good for sixty
/// seconds, once.
#[utoipa::path(
    post,
    path = "/v1/tickets",
    tag = "events",
    operation_id = "issueTicket",
    request_body(content = Option<Asked>, description = "No body: for events of all devices."),
    responses((status = 201, description = "The ticket.", body = Issued), Unproven, Absent, Refused),
    security(("user" = []), ("proxytoken" = [])),
)]
async fn issue(desk: &Desk, subscriber: &SubscriberActor, body: Body) -> Result<Response, Refusal> {
    let Asked { device, service } = json_body(body).await?;
    if service.is_some() && device.is_none() {
        return Err(Refusal::new(Code::BadRequest, "service: name its device, too"));
    }
    let now = desk.clock.now();
    let expires_at = now.plus(LIFETIME).min(subscriber.until());
    let mut record = TicketRecord {
        tenant: subscriber.tenant().clone(),
        user: subscriber.user().clone(),
        device: None,
        only: subscriber.devices().map(|devices| devices.keys().cloned().collect()),
        service: None,
        level: None,
        services: ServiceSet::all(),
        grant_sequence: desk.sequence(subscriber).await?,
        until: subscriber.until(),
        expires_at,
        purpose: TicketPurpose::Topics,
    };
    if let Some(device) = device {
        let grant = desk.grant(subscriber, &device, now).await?;
        if let Some(service) = &service {
            if !grant.services.contains(service) {
                let said = "this service of the device was not granted to you";
                return Err(Refusal::new(Code::LevelOrService, said));
            }
            record.purpose = TicketPurpose::Service;
            if subscriber.devices().is_none() {
                // As with a proxy token made at this moment: streams outlive the sign-in, not the grant.
                record.until = now.plus(LONGEST_STREAM);
            }
        }
        record.until = grant.until.map_or(record.until, |until| record.until.min(until));
        record.level = Some(grant.level);
        record.services = service.clone().map_or(grant.services, |service| ServiceSet::only([service]));
        (record.device, record.service) = (Some(device), service);
    }
    let ticket = Ticket::from_random(random::bytes());
    desk.registry.put_ticket(digest_of(&ticket), record, now).await?;
    let issued = Issued { ticket: ticket.reveal(), expires_at: expires_at.rfc3339() };
    Ok(answer(StatusCode::CREATED, &issued))
}

impl Desk {
    /// The state of the grants that the ticket stands on. Read before the grants: a change that falls in between
    /// makes the ticket stale, never too strong.
    async fn sequence(&self, subscriber: &SubscriberActor) -> Result<u64, Refusal> {
        match subscriber.grant_sequence() {
            Some(sequence) => Ok(sequence),
            None => {
                let sequence = self.store.grant_sequence(subscriber.tenant()).await;
                sequence.map_err(|error| error.refusal("reading the state of the grants"))
            }
        }
    }

    /// What the subscriber may do on a device now: the grant, and no more than the proof allows.
    async fn grant(
        &self,
        subscriber: &SubscriberActor,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<Grant, Refusal> {
        let absent = || {
            Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you")
                .with_status(404)
        };
        let (tenant, user) = (subscriber.tenant(), subscriber.user());
        let grant = self.store.grant_of(tenant, user, device).await;
        let grant = grant.map_err(|error| error.refusal("reading a grant"))?;
        let grant = grant.filter(|grant| grant.is_live(now)).ok_or_else(absent)?;
        let Some(allowed) = subscriber.devices() else { return Ok(grant) };
        let allowed = allowed.get(device).ok_or_else(absent)?;
        let changed = self.registry.grants().last_change(tenant, user, device);
        if changed.is_some_and(|changed| subscriber.grant_sequence().is_none_or(|minted| changed > minted)) {
            return Err(absent());
        }
        let services = match (grant.services.names(), allowed.services.names()) {
            (None, _) => allowed.services.clone(),
            (Some(_), None) => grant.services.clone(),
            (Some(names), Some(_)) => {
                ServiceSet::only(names.filter(|name| allowed.services.contains(name)).cloned())
            }
        };
        Ok(Grant { level: grant.level.min(allowed.level), services, until: grant.until })
    }
}

const LIFETIME: Duration = Duration::from_secs(60);
/// The longest that a stream lives on one proof.
const LONGEST_STREAM: Duration = Duration::from_secs(12 * 3600);
