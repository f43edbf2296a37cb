//! Taking away everything that a tenant holds: each device as if it were removed alone (certificates, tunnels,
//! grants, and with those streams, tickets and subscriptions), then rows in small steps, the tenant's own last.
//!
//! The row says first that the tenant is being deleted, so that it is none any more for anybody; whatever cuts the
//! work short, the next start goes on with it. There is one worker for a tenant, however many ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use model::{Actor, Code, Event, Refusal, TenantName};
use runtime::Backoff;
use store::StoreError;
use tokio::sync::watch;

use crate::{admin_devices, api::Inner};

/// The deletions that go on in this process. Bounded by the tenants, which operators alone make.
#[derive(Debug, Default)]
pub(crate) struct Deletions(Mutex<HashMap<TenantName, watch::Receiver<bool>>>);

/// A deletion that goes on.
pub(crate) struct Deletion(watch::Receiver<bool>);

impl Deletion {
    /// Returns when nothing of the tenant is left.
    pub(crate) async fn ended(mut self) {
        // The worker ends without having told when the process does: nobody waits any more.
        if self.0.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Deletes a tenant that is marked so, unless that goes on already.
pub(crate) fn begin(api: &Arc<Inner>, tenant: &TenantName, by: Actor) -> Deletion {
    let mut deletions = api.deletions.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = deletions.get(tenant) {
        return Deletion(running.clone());
    }
    let (tell, ended) = watch::channel(false);
    deletions.insert(tenant.clone(), ended.clone());
    let (working, tenant) = (Arc::clone(api), tenant.clone());
    api.tasks.spawn(async move {
        carry_out(&working, &tenant, &by).await;
        working.deletions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        tell.send_replace(true);
    });
    Deletion(ended)
}

/// Goes on with what an earlier process began.
pub(crate) async fn resume(api: Arc<Inner>) {
    let mut backoff = backoff();
    let tenants = loop {
        match api.store.tenants().await {
            Ok(tenants) => break tenants,
            Err(error) => {
                tracing::warn!(%error, "it cannot be read whether tenants are to be deleted; trying again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    };
    for tenant in tenants.into_iter().filter(|tenant| tenant.deleting_at.is_some()) {
        tracing::info!(tenant = %tenant.name, "going on with the deletion of a tenant");
        begin(&api, &tenant.name, Actor::System);
    }
}

/// Works until it is done, whatever fails in between.
async fn carry_out(api: &Inner, tenant: &TenantName, by: &Actor) {
    let mut backoff = backoff();
    while let Err(refusal) = attempt(api, tenant, by).await {
        tracing::warn!(%tenant, %refusal, "a tenant is not deleted yet; trying again");
        tokio::time::sleep(backoff.next_delay()).await;
    }
    tracing::info!(%tenant, "tenant deleted");
    api.registry.publish(Event::TenantDeleted { tenant: tenant.clone(), at: api.clock.now() });
}

async fn attempt(api: &Inner, tenant: &TenantName, by: &Actor) -> Result<(), Refusal> {
    let fault = |error: StoreError| error.refusal("deleting a tenant");
    loop {
        while end_some_devices(api, tenant, by).await? {}
        while api.store.purge_tenant(tenant, ROWS_AT_ONCE).await.map_err(fault)? > 0 {}
        match api.store.end_tenant_deletion(tenant, api.clock.now()).await {
            // What was under way when the deletion began has left something behind.
            Err(StoreError::Conflict { .. }) => {}
            outcome => return outcome.map_err(fault),
        }
    }
}

/// Ends a page of the tenant's devices, several at once; false where there was none left.
async fn end_some_devices(api: &Inner, tenant: &TenantName, by: &Actor) -> Result<bool, Refusal> {
    let page = api.store.devices(tenant, None, DEVICES_IN_A_PAGE).await;
    let page = page.map_err(|error| error.refusal("listing the devices of a tenant"))?;
    if page.is_empty() {
        return Ok(false);
    }
    let endings = page.into_iter().map(|row| async move {
        match admin_devices::end(api, &row.device, by).await {
            // An operator removed it at the same time.
            Err(refusal) if refusal.code == Code::NotFound => Ok(()),
            outcome => outcome,
        }
    });
    stream::iter(endings).buffer_unordered(DEVICES_AT_ONCE).try_collect::<()>().await?;
    Ok(true)
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
}

const DEVICES_IN_A_PAGE: u32 = 200;
/// They share flushes of the disk, and leave room for everybody else's writes.
const DEVICES_AT_ONCE: usize = 16;
const ROWS_AT_ONCE: u32 = 500;

#[cfg(test)]
#[path = "tenant_deletion_tests.rs"]
mod tests;
