//! After a crash: every issuance that was intended is brought to its end before a door opens.

use store::IssuerName;

use crate::{
    issuing::IssueError,
    provisioning::{Provisioning, StartError},
};

impl Provisioning {
    /// Signs pending intents again, with the very bytes that were intended: if an earlier signature
    /// existed, nobody ever saw it, and it said the same. A door's certificate is not finished but
    /// given up, for its key died with the process.
    pub(crate) async fn recover(&self) -> Result<(), StartError> {
        for row in self.store.pending_issuances().await? {
            let serial = row.certificate.serial;
            if row.certificate.issuer == IssuerName::Services {
                self.store.abandon_issuance(serial, self.clock.now()).await?;
                tracing::info!(%serial, "an unfinished door certificate was given up");
                continue;
            }
            match self.finish(row, true).await {
                Ok(_) => tracing::info!(%serial, "an unfinished issuance was finished"),
                // Bytes of another CA or an older profile: the device asks again and gets new ones.
                Err(IssueError::Recorded(error)) => {
                    self.store.abandon_issuance(serial, self.clock.now()).await?;
                    tracing::warn!(%serial, %error, "an unfinished issuance was given up");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
