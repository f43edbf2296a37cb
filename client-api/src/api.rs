//! The room, what it stands on, and its routes: each noun's own table, put together.

use std::{future::Future, sync::Arc};

use model::{Code, Refusal};
use registry::Registry;
use runtime::{Clock, FaultPoints, Tasks, http::Routes};
use store::Store;
use tcpmux_proto::Dialer;

use crate::{
    DeviceRemoval, IntakeStep, Outlets, ReportRates, Retention, admin_devices, admin_grants,
    agent_calls::AgentCalls,
    audit,
    claiming::Claiming,
    claims, device_self,
    events::{event_stream, feed::Feed, forgetting, history, topic_socket},
    me,
    notifications::{self, Courier},
    ownership, reports,
    sightings::Sightings,
    tenant_deletion,
    tenant_deletion::Deletions,
    tenants, user_connections, user_devices, user_grants,
    wrong_codes::WrongCodes,
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
    /// How much of the event log is kept.
    pub retention: Retention,
    /// Whose word ends an ownership when a device is reset.
    pub factory_reset: FactoryReset,
    /// Where a test makes the process die.
    pub fault_points: FaultPoints<IntakeStep>,
}

/// Whose word ends an ownership when a device is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FactoryReset {
    /// The owner's or an operator's alone: a thief who resets a device does not get it.
    #[default]
    Owner,
    /// The device's: whoever holds it in hand may reset it and claim it anew.
    Device,
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
    pub(crate) feed: Arc<Feed>,
    pub(crate) tasks: Tasks,
    pub(crate) shares: reports::Shares,
    pub(crate) deletions: Deletions,
    pub(crate) outlets: Outlets,
    courier: Arc<Courier>,
    pub(crate) factory_reset: FactoryReset,
    pub(crate) fault_points: FaultPoints<IntakeStep>,
    /// Absent where this process reaches no devices.
    pub(crate) calls: Option<Arc<AgentCalls>>,
    pub(crate) claiming: Option<Claiming>,
    pub(crate) wrong_codes: WrongCodes,
}

impl ClientApi {
    /// A room on these parts, which from now on notes when devices were connected, keeps claim codes in order, tells people what
    /// happened, and goes on with deletions of tenants that were cut short.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            store,
            registry,
            clock,
            tasks,
            removal,
            dialer,
            outlets,
            report_rates,
            retention,
            factory_reset,
            fault_points,
        } = parts;
        let feed = Feed::new(store.clone(), clock.clone());
        tasks.spawn(Arc::clone(&feed).run());
        let (events, sightings) = (
            registry.subscribe(),
            Sightings { store: store.clone(), registry: registry.clone(), clock: clock.clone() },
        );
        tasks.spawn(sightings.note(events));
        let (courier, sorted) = notifications::start(&store, &clock, &tasks, &outlets);
        tasks.spawn(forgetting::forget(store.clone(), clock.clone(), retention, sorted));
        let shares = reports::Shares::new(report_rates);
        let calls = dialer.map(|dialer| Arc::new(AgentCalls::new(dialer)));
        let claiming = calls.as_ref().map(|calls| {
            Claiming::start(store.clone(), registry.clone(), clock.clone(), &tasks, Arc::clone(calls))
        });
        let api = Arc::new(Inner {
            store,
            registry,
            clock,
            removal,
            feed,
            tasks,
            shares,
            deletions: Deletions::default(),
            outlets,
            courier,
            factory_reset,
            fault_points,
            calls,
            claiming,
            wrong_codes: WrongCodes::default(),
        });
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
            .merge(claims::user_routes(api))
            .merge(ownership::user_routes(api))
            .merge(event_stream::user_routes(api))
            .merge(topic_socket::user_routes(api))
            .merge(history::user_routes(api))
    }

    /// What devices may call.
    pub fn device_routes(&self) -> Routes {
        let api = &self.0;
        reports::device_routes(api)
            .merge(device_self::device_routes(api))
            .merge(ownership::device_routes(api))
    }

    /// What operators may call; `?tenant=` names the tenant, `default` where it is absent.
    pub fn admin_routes(&self) -> Routes {
        let api = &self.0;
        admin_devices::admin_routes(api)
            .merge(admin_grants::admin_routes(api))
            .merge(ownership::admin_routes(api))
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
