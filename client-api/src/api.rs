//! The route tables.

use std::{future::Future, sync::Arc};

use model::{Code, Refusal};
use registry::Registry;
use runtime::{
    Clock, Tasks,
    http::{Caller, Routes},
};
use store::Store;

use crate::{
    DeviceRemoval, admin_devices, admin_grants, audit, call::handler, me, sightings, tenants, user_devices,
};

/// The room.
#[derive(Clone)]
pub struct ClientApi(Arc<Inner>);

/// What every call needs.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) removal: Arc<dyn DeviceRemoval>,
    tasks: Tasks,
}

impl ClientApi {
    /// A room on this store and registry, which from now on notes when devices were connected. `removal` ends
    /// certificates and tunnels of a device that is removed.
    pub fn new(
        store: Store,
        registry: Registry,
        clock: Clock,
        removal: Arc<dyn DeviceRemoval>,
        tasks: Tasks,
    ) -> Self {
        tasks.spawn(sightings::note(store.clone(), registry.clone(), registry.subscribe()));
        Self(Arc::new(Inner { store, registry, clock, removal, tasks }))
    }

    /// What people may call.
    pub fn user_routes(&self) -> Routes {
        let api = &self.0;
        Routes::new()
            .get("/v1/me", Caller::User, handler(api, me::show))
            .get("/v1/devices", Caller::User, handler(api, user_devices::list))
            .get("/v1/devices/{id}", Caller::User, handler(api, user_devices::show))
    }

    /// What operators may call; `?tenant=` names the tenant, `default` where it is absent.
    pub fn admin_routes(&self) -> Routes {
        const DEVICE: &str = "/admin/api/devices/{id}";
        const GRANT: &str = "/admin/api/devices/{id}/grants/{user}";
        let api = &self.0;
        Routes::new()
            .get("/admin/api/devices", Caller::Admin, handler(api, admin_devices::list))
            .get(DEVICE, Caller::Admin, handler(api, admin_devices::show))
            .delete(DEVICE, Caller::Admin, handler(api, admin_devices::remove))
            .put(GRANT, Caller::Admin, handler(api, admin_grants::put))
            .delete(GRANT, Caller::Admin, handler(api, admin_grants::remove))
            .get("/admin/api/tenants", Caller::Admin, handler(api, tenants::list))
            .post("/admin/api/tenants", Caller::Admin, handler(api, tenants::create))
            .delete("/admin/api/tenants/{name}", Caller::Admin, handler(api, tenants::remove))
            .get("/admin/api/audit", Caller::Admin, handler(api, audit::list))
    }
}

impl Inner {
    /// Runs an act to its end even if the caller goes away: a row without its notice would be half an act.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        act: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        match self.tasks.spawn(act).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                Err(Refusal::new(Code::Draining, "this server is stopping; try again").retry_after(2))
            }
            Err(error) => {
                tracing::error!(%error, "an act ended badly");
                Err(Refusal::new(Code::Internal, "something here is broken; the server's log says what"))
            }
        }
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
