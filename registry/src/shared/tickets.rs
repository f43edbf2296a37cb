//! Tickets that any node may take: each is given once, by the server that took it in.
//!
//! There is no other way while the server is away: two nodes could give the same one.

use model::{TicketDigest, TicketRecord, Timestamp};

use super::{Away, Shared, keys, rows::millis};
use crate::error::{RegistryError, TICKETS_KEPT, TICKETS_PER_USER};

impl Shared {
    pub(crate) async fn put_ticket(
        &self,
        digest: TicketDigest,
        record: &TicketRecord,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let text = serde_json::to_string(record).expect("a record of names and numbers has a JSON form");
        let mut call = self.scripts.put_ticket.prepare_invoke();
        call.key(keys::ticket(&digest))
            .key(keys::TICKETS)
            .key(keys::tickets_of(&record.tenant, &record.user));
        call.arg(digest.to_string()).arg(millis(record.expires_at.since(now)).max(1)).arg(text);
        call.arg(TICKETS_PER_USER).arg(TICKETS_KEPT);
        let answer: String = self.link.run(&call).await?;
        match answer.as_str() {
            "kept" => Ok(()),
            "taken" => Err(RegistryError::Taken),
            "too many" => Err(RegistryError::TooMany),
            "too many of user" => Err(RegistryError::TooManyOfUser),
            _ => Err(RegistryError::Unavailable("it answers something that is not known".into())),
        }
    }

    pub(crate) async fn take_ticket(
        &self,
        digest: &TicketDigest,
        now: Timestamp,
    ) -> Result<Option<TicketRecord>, RegistryError> {
        let mut call = self.scripts.take_ticket.prepare_invoke();
        call.key(keys::ticket(digest)).key(keys::TICKETS).arg(digest.to_string());
        let kept: Option<String> = self.link.run(&call).await?;
        let record = kept.as_deref().map(serde_json::from_str::<TicketRecord>).transpose();
        let record =
            record.map_err(|_| RegistryError::Unavailable("it holds a ticket that cannot be read".into()))?;
        Ok(record.filter(|record| now < record.expires_at))
    }
}

impl From<Away> for RegistryError {
    fn from(Away(why): Away) -> Self {
        Self::Unavailable(why)
    }
}
