use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use model::{DeviceId, ServiceName, ServiceSet, TenantName};
use registry::GrantChange;

use super::*;
use crate::tokens::DeviceEntry;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
static CAM: LazyLock<DeviceId> = LazyLock::new(|| "cam".parse().unwrap());
static WEB: LazyLock<ServiceName> = LazyLock::new(|| "web".parse().unwrap());

fn user() -> UserId {
    UserId::from_random([3; 16])
}

fn token(level: Level) -> ProxyToken {
    let entry = DeviceEntry { level, services: ServiceSet::only([WEB.clone()]) };
    ProxyToken {
        issuer: "https://cloud.example.com".into(),
        subject: user().to_string(),
        user: Some(user()),
        tenant: TenantName::default(),
        grant_sequence: Some(7),
        expires_at: NOW.plus(Duration::from_secs(300)),
        until: NOW.plus(Duration::from_secs(3600)),
        devices: BTreeMap::from([(CAM.clone(), entry)]),
    }
}

fn asking(class: MethodClass) -> Asking<'static> {
    Asking { device: &CAM, service: &WEB, class, viewer_websocket: false }
}

fn code(token: &ProxyToken, asking: &Asking<'_>, grants: &GrantView) -> Option<Code> {
    admit(token, asking, grants, NOW).err().map(|refusal| refusal.code)
}

fn change(user: Option<UserId>, device: &str, sequence: u64) -> GrantChange {
    let device = device.parse().unwrap();
    GrantChange { tenant: TenantName::default(), user, device, sequence, at: NOW }
}

#[test]
fn a_granted_service_is_reached_as_its_tenants_device() {
    let admission =
        admit(&token(Level::Operator), &asking(MethodClass::Tcp), &GrantView::default(), NOW).unwrap();
    assert_eq!(admission.target.to_string(), "default/cam/web");
    assert_eq!(admission.level, Level::Operator);
    let other = admit(
        &{
            let mut t = token(Level::Operator);
            t.subject = "x".into();
            t
        },
        &asking(MethodClass::Tcp),
        &GrantView::default(),
        NOW,
    );
    assert_ne!(admission.principal, other.unwrap().principal);
}

#[test]
fn another_device_and_another_service_are_refused() {
    let (other, ssh): (DeviceId, ServiceName) = ("other".parse().unwrap(), "ssh".parse().unwrap());
    let grants = GrantView::default();
    let read = asking(MethodClass::Read);
    assert_eq!(
        code(&token(Level::Owner), &Asking { device: &other, ..read }, &grants),
        Some(Code::NotGranted)
    );
    assert_eq!(
        code(&token(Level::Owner), &Asking { service: &ssh, ..read }, &grants),
        Some(Code::LevelOrService)
    );
    assert_eq!(code(&token(Level::Owner), &read, &grants), None);
}

#[test]
fn a_viewer_reads_and_opens_websockets_only_where_the_device_lets_it() {
    let grants = GrantView::default();
    let viewer = token(Level::Viewer);
    assert_eq!(code(&viewer, &asking(MethodClass::Read), &grants), None);
    assert_eq!(code(&viewer, &asking(MethodClass::Write), &grants), Some(Code::LevelOrService));
    assert_eq!(code(&viewer, &asking(MethodClass::Tcp), &grants), Some(Code::LevelOrService));
    let websocket = asking(MethodClass::WebSocket);
    assert_eq!(code(&viewer, &websocket, &grants), Some(Code::LevelOrService));
    assert_eq!(code(&viewer, &Asking { viewer_websocket: true, ..websocket }, &grants), None);
    assert_eq!(code(&token(Level::Operator), &websocket, &grants), None);
}

#[test]
fn a_change_after_minting_makes_that_entry_stale_and_no_other() {
    let grants = GrantView::default();
    let read = asking(MethodClass::Read);
    let mut two = token(Level::Operator);
    let second: DeviceId = "second".parse().unwrap();
    two.devices.insert(second.clone(), two.devices[&*CAM].clone());
    grants.put(change(Some(user()), "cam", 7));
    assert_eq!(code(&two, &read, &grants), None, "the token was minted from this state");
    grants.put(change(Some(UserId::from_random([9; 16])), "cam", 8));
    assert_eq!(code(&two, &read, &grants), None, "somebody else's change");
    grants.put(change(Some(user()), "cam", 9));
    assert_eq!(code(&two, &read, &grants), Some(Code::NotGranted));
    assert_eq!(code(&two, &Asking { device: &second, ..read }, &grants), None);
    grants.put(change(None, "second", 10));
    assert_eq!(
        code(&two, &Asking { device: &second, ..read }, &grants),
        Some(Code::NotGranted),
        "a removed device"
    );
}

#[test]
fn a_token_without_grants_is_not_held_to_them() {
    let grants = GrantView::default();
    grants.put(change(Some(user()), "cam", 9));
    let mut token = token(Level::Operator);
    token.grant_sequence = None;
    assert_eq!(code(&token, &asking(MethodClass::Read), &grants), None);
}

#[test]
fn a_lease_ends_at_until_and_at_a_change() {
    let grants = GrantView::default();
    let lease = admit(&token(Level::Operator), &asking(MethodClass::Tcp), &grants, NOW).unwrap().lease;
    assert_eq!(lease.end(&grants, NOW.plus(Duration::from_secs(3599))), None, "it outlives the token itself");
    assert_eq!(lease.end(&grants, NOW.plus(Duration::from_secs(3600))), Some(LeaseEnd::Until));
    grants.put(change(Some(user()), "cam", 8));
    assert_eq!(lease.end(&grants, NOW), Some(LeaseEnd::GrantChanged));
}
