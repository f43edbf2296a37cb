//! A ticket in the place of a token: for WebSockets of clients that cannot send a header there.
//!
//! It is taken from the registry, which gives it once, and out of the address before the device or a log sees it.
//! One that is shown at another place than it was made for is refused, and used up: whoever showed it there may
//! not have been the one who asked for it.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, header::AUTHORIZATION, uri::PathAndQuery};
use model::{Code, Refusal, ServiceSet, Ticket, TicketDigest, TicketPurpose, TicketRecord, Timestamp};
use registry::Registry;

use crate::{
    request::{Exchange, Shape},
    tokens::{DeviceEntry, ProxyToken},
};

/// The ticket with which a WebSocket is to be opened; `None` where there is none, or this opens no WebSocket.
///
/// # Errors
/// When a token is shown beside it.
pub(crate) fn shown(
    query: Option<&str>,
    headers: &HeaderMap,
    shape: &Shape,
) -> Result<Option<Ticket>, Refusal> {
    if shape.exchange != Exchange::WebSocket {
        return Ok(None);
    }
    let mut pieces = query.unwrap_or_default().split('&');
    let Some(text) = pieces.find_map(|piece| piece.strip_prefix(PARAMETER)) else { return Ok(None) };
    match (text.parse(), headers.contains_key(AUTHORIZATION)) {
        // Then it is the device's own, as everything else of the query.
        (Err(_), _) => Ok(None),
        (Ok(_), true) => Err(Refusal::new(
            Code::BadRequest,
            "show a token or a ticket, not both: the ticket is not used up",
        )),
        (Ok(ticket), false) => Ok(Some(ticket)),
    }
}

/// The target without its first `ticket=`; the rest stays byte for byte.
pub(crate) fn without(target: &PathAndQuery) -> PathAndQuery {
    let Some(query) = target.query() else { return target.clone() };
    let mut is_gone = false;
    let is_kept = |piece: &&str| {
        let goes = !is_gone && piece.starts_with(PARAMETER);
        is_gone |= goes;
        !goes
    };
    let rest: Vec<&str> = query.split('&').filter(is_kept).collect();
    let text = match rest.as_slice() {
        [] => target.path().to_owned(),
        rest => format!("{}?{}", target.path(), rest.join("&")),
    };
    text.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

/// Takes the ticket; what it says is as good as a token for one service of one device. `issuer` signs our tokens,
/// so that a person is the same principal either way.
pub(crate) async fn take(
    registry: &Registry,
    ticket: &Ticket,
    issuer: &str,
    now: Timestamp,
) -> Result<ProxyToken, Refusal> {
    let digest = digest(&SHA256, ticket.secret_bytes());
    let digest = TicketDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"));
    let record = registry.take_ticket(&digest, now).await?.ok_or_else(refused)?;
    if now >= record.until {
        return Err(refused());
    }
    Ok(token(record, issuer))
}

fn token(record: TicketRecord, issuer: &str) -> ProxyToken {
    let mut devices = BTreeMap::new();
    // Any other ticket opens nothing here.
    if let (TicketPurpose::Service, Some(device), Some(service), Some(level)) =
        (record.purpose, record.device, record.service, record.level)
    {
        devices.insert(device, DeviceEntry { level, services: ServiceSet::only([service]) });
    }
    ProxyToken {
        issuer: issuer.to_owned(),
        subject: record.user.to_string(),
        user: Some(record.user),
        tenant: record.tenant,
        grant_sequence: Some(record.grant_sequence),
        expires_at: record.until,
        until: record.until,
        devices,
    }
}

fn refused() -> Refusal {
    Refusal::new(Code::TokenUnknownKey, "this ticket is unknown, used or expired; ask for another")
}

const PARAMETER: &str = "ticket=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ticket_goes_and_the_rest_stays_byte_for_byte() {
        for (target, rest) in [
            ("/ws?ticket=00", "/ws"),
            ("/ws?a=%2F&ticket=00&b=/../&&c", "/ws?a=%2F&b=/../&&c"),
            ("/ws?ticket=00&ticket=mine", "/ws?ticket=mine"),
            ("/ws?ticket=00&", "/ws?"),
            ("/ws?xticket=00&Ticket=1", "/ws?xticket=00&Ticket=1"),
            ("/ws", "/ws"),
            ("/ws?", "/ws?"),
        ] {
            assert_eq!(without(&target.parse().unwrap()).as_str(), rest, "{target}");
        }
    }
}
