//! The room, what it stands on, and its routes: each noun's own table, put together.

use std::{future::Future, sync::Arc};

use model::{Code, Refusal};
use registry::Registry;
use runtime::{Clock, Tasks, http::Routes};
use store::Store;
use tcpmux_proto::Dialer;

use crate::{
    DeviceRemoval, Outlets, ReportRates, admin_devices, admin_grants, audit, device_self, me,
    notifications::{self, Courier},
    reports,
    sightings::Sightings,
    tenant_deletion,
    tenant_deletion::Deletions,
    tenants, user_connections, user_devices, user_grants,
};

/// What the room stands on; the roof hands it over.
pub struct Parts {
    /// What must last.
    pub store: Store,
    /// What is true now.
    pub registry: Registry,
    /// The time.
    pub clock: Clock,
    /// Where the room's own work runs.
    pub tasks: Tasks,
    /// Ends certificates and tunnels of a device that is removed.
    pub removal: Arc<dyn DeviceRemoval>,
    /// Reaches devices; absent where this process holds no tunnels.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// The ways out to people.
    pub outlets: Outlets,
    /// How much each device may report.
    pub report_rates: ReportRates,
}

/// The room.
#[derive(Clone)]
pub struct ClientApi(Arc<Inner>);

/// What every call needs.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) removal: Arc<dyn DeviceRemoval>,
    pub(crate) tasks: Tasks,
    pub(crate) shares: reports::Shares,
    pub(crate) deletions: Deletions,
    pub(crate) outlets: Outlets,
    courier: Arc<Courier>,
}

impl ClientApi {
    /// A room on these parts, which from now on notes when devices were connected, tells people what happened, and goes on with deletions of
    /// tenants that were cut short.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, registry, clock, tasks, removal, dialer: _, outlets, report_rates } = parts;
        let (events, sightings) = (
            registry.subscribe(),
            Sightings { store: store.clone(), registry: registry.clone(), clock: clock.clone() },
        );
        tasks.spawn(sightings.note(events));
        let courier = notifications::start(&store, &clock, &tasks, &outlets);
        let shares = reports::Shares::new(report_rates);
        let deletions = Deletions::default();
        let api =
            Arc::new(Inner { store, registry, clock, removal, tasks, shares, deletions, outlets, courier });
        api.tasks.spawn(tenant_deletion::resume(Arc::clone(&api)));
        api.tasks.spawn(audit::tell_head(Arc::clone(&api)));
        Self(api)
    }

    #[cfg(test)]
    pub(crate) fn wake(&self) {
        self.0.wake_courier();
    }

    /// What people may call.
    pub fn user_routes(&self) -> Routes {
        let api = &self.0;
        me::user_routes(api)
            .merge(user_devices::user_routes(api))
            .merge(user_grants::user_routes(api))
            .merge(user_connections::user_routes(api))
            .merge(notifications::user_routes(api))
    }

    /// What devices may call.
    pub fn device_routes(&self) -> Routes {
        let api = &self.0;
        reports::device_routes(api).merge(device_self::device_routes(api))
    }

    /// What operators may call; `?tenant=` names the tenant, `default` where it is absent.
    pub fn admin_routes(&self) -> Routes {
        let api = &self.0;
        admin_devices::admin_routes(api)
            .merge(admin_grants::admin_routes(api))
            .merge(tenants::admin_routes(api))
            .merge(audit::admin_routes(api))
    }
}

impl Inner {
    /// Something is to be sent at once.
    pub(crate) fn wake_courier(&self) {
        self.courier.wake.notify_one();
    }

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
