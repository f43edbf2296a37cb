//! Whether a caller may reach a service of a device, this way, now. The only place that decides it. Pure.

use aws_lc_rs::digest::{SHA256, digest};
use model::{Code, DeviceRef, Level, MethodClass, Refusal, Target, Timestamp, UserId};
use registry::GrantView;

use crate::{tokens::ProxyToken, visitors::OpenVisit};

/// A caller who may open one stream to one service.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    /// Where to.
    pub(crate) target: Target,
    /// Who, as the token names them.
    pub(crate) subject: String,
    /// SHA-256 of issuer and subject: tells callers apart without naming them.
    pub(crate) principal: [u8; 32],
    /// How much.
    pub(crate) level: Level,
    /// For how long.
    pub(crate) lease: Lease,
}

/// For how long an admission holds once its stream is open.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    device: DeviceRef,
    user: Option<UserId>,
    grant_sequence: Option<u64>,
    until: Option<Timestamp>,
    visit: Option<OpenVisit>,
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// The token's `until` has come.
    Until,
    /// The caller's rights on the device changed after the token was minted.
    GrantChanged,
    /// The person of the browser signed out, or their login is over.
    SignedOut,
}

/// Decides. `viewer_websocket` says whether the device lets viewers open WebSockets on this service.
pub(crate) fn admit(
    token: &ProxyToken,
    asked: &Asking<'_>,
    grants: &GrantView,
    now: Timestamp,
) -> Result<Admission, Refusal> {
    let device = DeviceRef::new(token.tenant.clone(), asked.device.clone());
    let lease = Lease {
        device: device.clone(),
        user: token.user.clone(),
        grant_sequence: token.grant_sequence,
        until: Some(token.until),
        visit: None,
    };
    // One answer for what is not granted, what is not there and what was taken away.
    let not_granted =
        || Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you");
    let entry = token.devices.get(asked.device).ok_or_else(not_granted)?;
    if lease.end(grants, now).is_some() {
        return Err(not_granted());
    }
    if !entry.services.contains(asked.service) {
        return Err(Refusal::new(Code::LevelOrService, "this service of the device was not granted to you"));
    }
    if !entry.level.allows(asked.class) {
        let detail = match asked.class {
            MethodClass::Tcp => "a raw stream needs the level operator",
            _ => "a viewer may only GET, HEAD and OPTIONS; this needs the level operator",
        };
        return Err(Refusal::new(Code::LevelOrService, detail));
    }
    if entry.level == Level::Viewer && asked.class == MethodClass::WebSocket && !asked.viewer_websocket {
        let detail = "this service of the device does not let viewers open WebSockets";
        return Err(Refusal::new(Code::LevelOrService, detail));
    }
    Ok(Admission {
        target: Target { device, service: asked.service.clone() },
        subject: token.subject.clone(),
        principal: principal(&token.issuer, &token.subject),
        level: entry.level,
        lease,
    })
}

/// What is asked for, as far as admission is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// The device, in the tenant that the token tells.
    pub(crate) device: &'a model::DeviceId,
    /// The service on it.
    pub(crate) service: &'a model::ServiceName,
    /// In what way.
    pub(crate) class: MethodClass,
    /// Whether the device lets viewers open WebSockets on this service.
    pub(crate) viewer_websocket: bool,
}

impl Admission {
    /// The admission of whoever may connect to a published port: the operator opened it by configuration.
    pub(crate) fn published(target: Target) -> Self {
        let device = target.device.clone();
        let lease = Lease { device, user: None, grant_sequence: None, until: None, visit: None };
        let subject = String::from("publish");
        Self { target, principal: principal("", &subject), subject, level: Level::Operator, lease }
    }
}

impl Lease {
    /// Why this lease does not hold at `now`; `None` as long as it does.
    pub(crate) fn end(&self, grants: &GrantView, now: Timestamp) -> Option<LeaseEnd> {
        if self.until.is_some_and(|until| now >= until) {
            return Some(LeaseEnd::Until);
        }
        let (user, minted) = (self.user.as_ref()?, self.grant_sequence?);
        let changed = grants.last_change(&self.device.tenant, user, &self.device.device)?;
        (changed > minted).then_some(LeaseEnd::GrantChanged)
    }

    /// The same lease for no longer than this visit goes on.
    pub(crate) fn while_visiting(self, visit: Option<OpenVisit>) -> Self {
        Self { visit, ..self }
    }

    /// The visit that it ends with.
    pub(crate) fn visit(&self) -> Option<&OpenVisit> {
        self.visit.as_ref()
    }

    /// When it ends at the latest.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

impl LeaseEnd {
    /// The words in logs and close frames.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Until => "the token's time for open streams is over",
            Self::GrantChanged => "the rights on this device changed",
            Self::SignedOut => "the browser signed out",
        }
    }
}

/// SHA-256 of issuer, a zero byte and subject.
fn principal(issuer: &str, subject: &str) -> [u8; 32] {
    let named = [issuer.as_bytes(), b"\0", subject.as_bytes()].concat();
    digest(&SHA256, &named).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
