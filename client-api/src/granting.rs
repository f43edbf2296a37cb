//! A right on a device, as it is asked for and as it is shown, whoever gives it.

use model::{Code, DeviceId, Grant, Level, Refusal, ServiceName, ServiceSet, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

/// A right to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantRequest, example = json!({"level": "viewer", "services": ["web"], "until": "2027-01-31T12:00:00Z"}))]
pub(crate) struct Asked {
    /// `viewer` reads, `operator` does everything.
    #[schema(value_type = String, pattern = "^(viewer|operator)$")]
    level: Level,
    /// These services alone; leave it out for all, also future ones.
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    services: Option<Vec<ServiceName>>,
    /// Until when; leave it out for ever.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// A right that somebody has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Grant, example = json!({
    "device": "cam-01", "user": "usr_0123456789abcdef0123456789abcdef", "level": "viewer",
    "services": ["web"], "until": "2027-01-31T12:00:00Z",
}))]
pub(crate) struct Granted {
    /// On which device.
    #[schema(value_type = String)]
    device: DeviceId,
    /// Whose.
    #[schema(value_type = String)]
    user: UserId,
    /// How much.
    #[schema(value_type = String, pattern = "^(viewer|operator|owner)$")]
    level: Level,
    /// On which services; `null` for all.
    #[schema(value_type = Option<Vec<String>>)]
    services: ServiceSet,
    /// Until when; `null` for ever.
    #[schema(format = DateTime)]
    until: Option<String>,
}

impl Asked {
    /// What is asked for, if it makes sense.
    pub(crate) fn grant(self, now: Timestamp) -> Result<Grant, Refusal> {
        let bad = |detail: &'static str| Refusal::new(Code::BadRequest, detail);
        if self.services.as_ref().is_some_and(|services| services.len() > MOST_SERVICES) {
            return Err(bad("services: at most 64; leave it out to grant all"));
        }
        let until = self.until.as_deref().map(moment).transpose();
        let until = until.map_err(|()| bad("until: write a time as in 2027-01-31T12:00:00Z"))?;
        if until.is_some_and(|until| until <= now) {
            return Err(bad("until: is in the past"));
        }
        let services = self.services.map_or_else(ServiceSet::all, ServiceSet::only);
        Ok(Grant { level: self.level, services, until })
    }
}

impl Granted {
    /// This right of this user.
    pub(crate) fn of(device: &DeviceId, user: &UserId, grant: &Grant) -> Self {
        Self {
            device: device.clone(),
            user: user.clone(),
            level: grant.level,
            services: grant.services.clone(),
            until: grant.until.map(Timestamp::rfc3339),
        }
    }
}

/// One answer for users of other tenants, for users that are not, and for what is no user's id.
pub(crate) fn no_user() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such user; the id is the one that GET /v1/me shows")
}

/// The user is there, or is not: what was to be ended is not there.
pub(crate) fn no_grant() -> Refusal {
    Refusal::new(Code::NotFound, "this user has no grant on this device")
}

fn moment(text: &str) -> Result<Timestamp, ()> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ())?;
    Ok(Timestamp::from_secs(moment.unix_timestamp()))
}

const MOST_SERVICES: usize = 64;
