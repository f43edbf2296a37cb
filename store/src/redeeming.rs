//! Redeeming a passcode: the one transaction in which it binds to a key and a certificate is intended.

use std::time::Duration;

use model::{DeviceRef, PasscodeDigest, Timestamp};
use sqlx::SqliteConnection;

use crate::{
    AuditEntry, Intent, IssuanceRow, Store, StoreError, Subject, audit, devices,
    issuing::{Grounds, earlier, intend, key_is_free},
    passcodes::{self, PasscodeRow, by_digest},
};

/// A passcode, and the certificate that it is to be redeemed for.
#[derive(Debug, Clone)]
pub struct RedemptionRequest {
    /// Which passcode.
    pub digest: PasscodeDigest,
    /// For which certificate; its subject is a device.
    pub intent: Intent,
    /// For how long after the redemption the same key gets the same certificate.
    pub window: Duration,
    /// From where; for audit.
    pub source: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redemption {
    /// The passcode is bound now, and this certificate may be signed.
    Intended(IssuanceRow),
    /// It was bound to this key before; this is the certificate, signed or not.
    Repeat(IssuanceRow),
    /// It was not redeemed.
    Refused(RedemptionRefusal),
}

/// Why a passcode was not redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedemptionRefusal {
    /// There is no such passcode.
    Unknown,
    /// Its time is over.
    Expired,
    /// It is bound to another key.
    Replay,
    /// It was redeemed with this key, too long ago, or the certificate was used or revoked since.
    Spent,
    /// It is bound to another device.
    OtherDevice,
    /// It makes new devices only, and this one exists.
    DeviceExists,
    /// The key belongs to another device, or a certificate of it was revoked.
    KeyBlocked,
}

impl RedemptionRefusal {
    /// The word in audit rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "otp-unknown",
            Self::Expired => "otp-expired",
            Self::Replay => "otp-replay",
            Self::Spent => "otp-spent",
            Self::OtherDevice => "identity-mismatch",
            Self::DeviceExists => "device-exists",
            Self::KeyBlocked => "key-blocked",
        }
    }
}

impl Store {
    /// Redeems a passcode, once however many try together: the first key wins, its repeats get the
    /// same certificate, every other key is refused. A refusal leaves the passcode as it was.
    pub async fn redeem_passcode(
        &self,
        request: RedemptionRequest,
        at: Timestamp,
    ) -> Result<Redemption, StoreError> {
        self.write(move |c| Box::pin(async move { redeem(c, &request, at).await })).await
    }
}

async fn redeem(
    c: &mut SqliteConnection,
    request: &RedemptionRequest,
    at: Timestamp,
) -> Result<Redemption, StoreError> {
    let Some(passcode) = by_digest(c, request.digest).await? else {
        return refuse(c, request, None, RedemptionRefusal::Unknown, at).await;
    };
    if let Some(pinned) = passcode.pinned_spki {
        let refusal = if pinned == request.intent.spki_sha256 {
            match earlier(c, &request.intent.idempotency, at.minus(request.window)).await? {
                Some(row) => return Ok(Redemption::Repeat(row)),
                None => RedemptionRefusal::Spent,
            }
        } else {
            RedemptionRefusal::Replay
        };
        return refuse(c, request, Some(&passcode), refusal, at).await;
    }
    match first_redemption(c, request, &passcode, at).await? {
        Some(refusal) => refuse(c, request, Some(&passcode), refusal, at).await,
        None => {
            let actor = format!("{} from {}", passcodes::object(&passcode.id), request.source);
            pin(c, request, &passcode, at).await?;
            let grounds = Grounds::Passcode(passcode.id);
            Ok(Redemption::Intended(intend(c, &request.intent, grounds, actor, at).await?))
        }
    }
}

/// Whether anything stands against the first redemption; makes the device's row where there is none.
async fn first_redemption(
    c: &mut SqliteConnection,
    request: &RedemptionRequest,
    passcode: &PasscodeRow,
    at: Timestamp,
) -> Result<Option<RedemptionRefusal>, StoreError> {
    if at >= passcode.expires_at {
        return Ok(Some(RedemptionRefusal::Expired));
    }
    let Subject::Device(device) = &request.intent.subject else {
        return Ok(Some(RedemptionRefusal::OtherDevice));
    };
    if !serves(passcode, device) {
        return Ok(Some(RedemptionRefusal::OtherDevice));
    }
    if !key_is_free(c, &request.intent).await? {
        return Ok(Some(RedemptionRefusal::KeyBlocked));
    }
    let made = devices::add(c, device, at).await?;
    Ok((!made && passcode.device.is_none()).then_some(RedemptionRefusal::DeviceExists))
}

fn serves(passcode: &PasscodeRow, device: &DeviceRef) -> bool {
    passcode.tenant == device.tenant && passcode.device.as_ref().is_none_or(|bound| *bound == device.device)
}

async fn pin(
    c: &mut SqliteConnection,
    request: &RedemptionRequest,
    passcode: &PasscodeRow,
    at: Timestamp,
) -> Result<(), StoreError> {
    let pinned = sqlx::query(
        "UPDATE passcodes SET redeemed_at = ?, pinned_spki = ?, certificate = ?
         WHERE id = ? AND redeemed_at IS NULL",
    )
    .bind(at.0)
    .bind(&request.intent.spki_sha256[..])
    .bind(&request.intent.serial.0[..])
    .bind(&passcode.id)
    .execute(&mut *c)
    .await?;
    if pinned.rows_affected() != 1 {
        return Err(StoreError::Conflict { what: "the passcode was redeemed meanwhile" });
    }
    Ok(())
}

async fn refuse(
    c: &mut SqliteConnection,
    request: &RedemptionRequest,
    passcode: Option<&PasscodeRow>,
    refusal: RedemptionRefusal,
    at: Timestamp,
) -> Result<Redemption, StoreError> {
    let entry = AuditEntry {
        actor: format!("anyone from {}", request.source),
        action: "passcode.redeem",
        object: passcode.map_or_else(|| "passcode".into(), |passcode| passcodes::object(&passcode.id)),
        outcome: refusal.as_str(),
        detail: crate::issuing::object(&request.intent.subject),
    };
    audit::append(c, &entry, at).await?;
    Ok(Redemption::Refused(refusal))
}
