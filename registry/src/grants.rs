//! Which rights changed lately: a token minted before a change of its user on a device is stale there.

use std::{
    collections::HashMap,
    sync::{OnceLock, PoisonError, RwLock},
};

use model::{DeviceId, TenantName, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// One change of one user's rights on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantChange {
    /// In which tenant.
    pub tenant: TenantName,
    /// Whose right; `None` for everybody's, as when a device is removed.
    pub user: Option<UserId>,
    /// On which device.
    pub device: DeviceId,
    /// The tenant's grant sequence after the change.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
}

/// The changes of the last token lifetimes. Bounded: forgetting is by age, and past
/// [`CHANGES_KEPT`] a tenant's oldest changes become one floor that refuses more, never less.
#[derive(Debug)]
pub struct GrantView {
    tenants: RwLock<HashMap<TenantName, Changes>>,
    changed: broadcast::Sender<GrantChange>,
    /// Told of every change that was put here; tells the other nodes.
    onward: OnceLock<Onward>,
}

struct Onward(Box<dyn Fn(&GrantChange) + Send + Sync>);

impl std::fmt::Debug for Onward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Onward")
    }
}

#[derive(Debug, Default)]
struct Changes {
    sequence: u64,
    /// Tokens minted before this sequence are stale for every device.
    floor: u64,
    last: HashMap<(DeviceId, Option<UserId>), (u64, Timestamp)>,
}

impl Default for GrantView {
    fn default() -> Self {
        Self { tenants: RwLock::default(), changed: broadcast::channel(1024).0, onward: OnceLock::new() }
    }
}

impl GrantView {
    /// The tenant's newest grant sequence that this view has seen.
    pub fn sequence(&self, tenant: &TenantName) -> u64 {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).map_or(0, |changes| changes.sequence)
    }

    /// The sequence of the last change of this user's rights on this device, if one is remembered.
    pub fn last_change(&self, tenant: &TenantName, user: &UserId, device: &DeviceId) -> Option<u64> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let changes = tenants.get(tenant)?;
        let of =
            |user: Option<UserId>| changes.last.get(&(device.clone(), user)).map(|(sequence, _)| *sequence);
        let floor = (changes.floor > 0).then_some(changes.floor);
        of(Some(user.clone())).max(of(None)).max(floor)
    }

    /// Records a change, tells the streams that stand on the old state, and the other nodes.
    pub fn put(&self, change: GrantChange) {
        if let Some(Onward(tell)) = self.onward.get() {
            tell(&change);
        }
        self.load(change);
    }

    /// From now on `tell` hears of every change that is put here.
    pub(crate) fn tell_onward(&self, tell: impl Fn(&GrantChange) + Send + Sync + 'static) {
        // A registry is joined to the others once, when it is made.
        let _ = self.onward.set(Onward(Box::new(tell)));
    }

    /// Records a change that the other nodes know: read from the store, or told by one of them.
    pub fn load(&self, change: GrantChange) {
        {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            let changes = tenants.entry(change.tenant.clone()).or_default();
            changes.sequence = changes.sequence.max(change.sequence);
            let key = (change.device.clone(), change.user.clone());
            let last = changes.last.entry(key).or_insert((0, change.at));
            *last = (last.0.max(change.sequence), last.1.max(change.at));
            if changes.last.len() > CHANGES_KEPT {
                changes.floor = changes.sequence;
                changes.last.clear();
            }
        }
        // Without a stream to end there is nobody to tell.
        let _ = self.changed.send(change);
    }

    /// Sets the tenant's sequence as the store knows it, at start.
    pub fn raise(&self, tenant: &TenantName, sequence: u64) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let changes = tenants.entry(tenant.clone()).or_default();
        changes.sequence = changes.sequence.max(sequence);
    }

    /// Refuses every token of a tenant that was minted before this sequence: it is of an earlier tenant of the
    /// same name.
    pub fn begin(&self, tenant: &TenantName, first: u64) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let changes = tenants.entry(tenant.clone()).or_default();
        changes.sequence = changes.sequence.max(first);
        changes.floor = changes.floor.max(first);
    }

    /// Forgets changes older than any token that could still be shown.
    pub fn forget_before(&self, moment: Timestamp) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        for changes in tenants.values_mut() {
            changes.last.retain(|_, (_, at)| *at >= moment);
        }
    }

    /// Changes from now on. `Lagged` means: look at every stream again.
    pub fn subscribe(&self) -> broadcast::Receiver<GrantChange> {
        self.changed.subscribe()
    }
}

/// Changes remembered per tenant before they become one floor.
pub const CHANGES_KEPT: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(user: Option<u8>, sequence: u64) -> GrantChange {
        GrantChange {
            tenant: TenantName::default(),
            user: user.map(|byte| UserId::from_random([byte; 16])),
            device: "cam-01".parse().unwrap(),
            sequence,
            at: Timestamp(sequence as i64),
        }
    }

    fn last(view: &GrantView, user: u8, device: &str) -> Option<u64> {
        view.last_change(&TenantName::default(), &UserId::from_random([user; 16]), &device.parse().unwrap())
    }

    #[test]
    fn a_change_touches_that_user_on_that_device_alone() {
        let view = GrantView::default();
        view.put(change(Some(1), 5));
        assert_eq!(last(&view, 1, "cam-01"), Some(5));
        assert_eq!(last(&view, 2, "cam-01"), None);
        assert_eq!(last(&view, 1, "cam-02"), None);
        assert_eq!(view.sequence(&TenantName::default()), 5);
    }

    #[test]
    fn a_change_for_everybody_touches_everybody_and_an_older_one_changes_nothing() {
        let view = GrantView::default();
        view.put(change(Some(1), 5));
        view.put(change(None, 7));
        view.put(change(Some(1), 3));
        assert_eq!(last(&view, 1, "cam-01"), Some(7));
        assert_eq!(last(&view, 2, "cam-01"), Some(7));
    }

    #[test]
    fn a_tenant_made_anew_refuses_every_token_of_the_last_of_its_name() {
        let view = GrantView::default();
        view.put(change(Some(1), 5));
        view.begin(&TenantName::default(), 6);
        assert_eq!(last(&view, 1, "cam-01"), Some(6), "a token of 5 is older, one of 6 is not");
        assert_eq!(last(&view, 9, "never-seen"), Some(6));
        assert_eq!(view.sequence(&TenantName::default()), 6);
    }

    #[test]
    fn too_many_changes_refuse_more_never_less() {
        let view = GrantView::default();
        for sequence in 1..=(CHANGES_KEPT as u64 + 1) {
            let mut one = change(Some(1), sequence);
            one.device = format!("d{sequence}").parse().unwrap();
            view.put(one);
        }
        assert_eq!(last(&view, 9, "never-seen"), Some(CHANGES_KEPT as u64 + 1));
    }
}
