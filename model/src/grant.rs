//! Who may reach which services of a device, at which level, until when.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ServiceName, Timestamp};

/// How much a user may do on a device. The order is the order of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// GET, HEAD, OPTIONS and SSE; WebSocket only where the device's service allows viewers.
    Viewer,
    /// Every method, WebSocket and TCP.
    Operator,
    /// As operator, and may share the device or give it away.
    Owner,
}

/// What a request asks for, as far as levels are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodClass {
    /// GET, HEAD or OPTIONS without an upgrade.
    Read,
    /// Any other method.
    Write,
    /// A WebSocket through the device's HTTP service.
    WebSocket,
    /// Raw bytes to a TCP service.
    Tcp,
}

impl Level {
    /// Whether this level covers what is asked. A viewer's WebSocket is the device's to allow.
    pub fn allows(self, asked: MethodClass) -> bool {
        match self {
            Self::Viewer => matches!(asked, MethodClass::Read | MethodClass::WebSocket),
            Self::Operator | Self::Owner => true,
        }
    }

    /// The word used in tokens, headers and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "owner" => Ok(Self::Owner),
            _ => Err("a level is viewer, operator or owner".into()),
        }
    }
}

/// The services that a grant covers. `None` in JSON means all of them, also future ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceSet(Option<BTreeSet<ServiceName>>);

impl ServiceSet {
    /// Every service of the device.
    pub const fn all() -> Self {
        Self(None)
    }

    /// Only these.
    pub fn only(services: impl IntoIterator<Item = ServiceName>) -> Self {
        Self(Some(services.into_iter().collect()))
    }

    /// Whether every service is covered.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this service is covered.
    pub fn contains(&self, service: &ServiceName) -> bool {
        self.0.as_ref().is_none_or(|set| set.contains(service))
    }

    /// The listed names; `None` for all.
    pub fn names(&self) -> Option<impl Iterator<Item = &ServiceName>> {
        self.0.as_ref().map(|set| set.iter())
    }
}

/// A user's right on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// How much.
    pub level: Level,
    /// On which services.
    #[serde(default, skip_serializing_if = "ServiceSet::is_all")]
    pub services: ServiceSet,
    /// Until when; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Grant {
    /// Whether the grant is in force at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_reads_and_an_operator_does_all() {
        assert!(Level::Viewer.allows(MethodClass::Read));
        assert!(!Level::Viewer.allows(MethodClass::Write));
        assert!(!Level::Viewer.allows(MethodClass::Tcp));
        assert!(Level::Operator.allows(MethodClass::Tcp));
        assert!(Level::Viewer < Level::Operator && Level::Operator < Level::Owner);
    }

    #[test]
    fn no_list_of_services_means_all_and_an_empty_list_means_none() {
        let web: ServiceName = "web".parse().unwrap();
        assert!(ServiceSet::all().contains(&web));
        assert!(!ServiceSet::only([]).contains(&web));
        let grant: Grant = serde_json::from_str(r#"{"level":"viewer"}"#).unwrap();
        assert!(grant.services.is_all());
        let grant: Grant = serde_json::from_str(r#"{"level":"viewer","services":["web"]}"#).unwrap();
        assert!(grant.services.contains(&web) && !grant.services.is_all());
    }

    #[test]
    fn a_grant_ends_at_its_until() {
        let grant = Grant { level: Level::Owner, services: ServiceSet::all(), until: Some(Timestamp(10)) };
        assert!(grant.is_live(Timestamp(9)) && !grant.is_live(Timestamp(10)));
    }
}
