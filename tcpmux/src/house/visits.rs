//! The seam between the proxy, which meets browsers at devices' hosts, and the gateway, which knows their logins.

use std::sync::Arc;

use cloud_gateway::Gateway;
use cloud_proxy::{SignIn, VisitorFuture, Visitors, Welcome};

/// How browsers get in at devices' hosts.
pub(super) fn sign_in(gateway: &Arc<Gateway>, public_url: &str) -> SignIn {
    let handover = format!("{}/handover", public_url.trim_end_matches('/'));
    SignIn { handover, visitors: Arc::new(Visits(Arc::clone(gateway))) }
}

struct Visits(Arc<Gateway>);

impl Visitors for Visits {
    fn redeem<'a>(&'a self, code: &'a str, label: &'a str, binding: &'a str) -> VisitorFuture<'a, Welcome> {
        Box::pin(async move {
            let welcome = self.0.redeem_handover(code, label, binding).await?;
            Ok(welcome.map(|welcome| Welcome {
                visit: welcome.visit,
                path: welcome.path,
                life: welcome.life,
            }))
        })
    }

    fn token<'a>(&'a self, visit: &'a str, label: &'a str) -> VisitorFuture<'a, String> {
        Box::pin(self.0.visit_token(visit, label))
    }

    fn goes_on<'a>(&'a self, visit: &'a str, label: &'a str) -> VisitorFuture<'a, ()> {
        Box::pin(async move { Ok(self.0.visit_goes_on(visit, label).await?.then_some(())) })
    }

    fn ended(&self) -> u64 {
        self.0.logins_ended()
    }
}
