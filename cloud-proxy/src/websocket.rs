//! A WebSocket through the device's HTTP service: after a real 101 the bytes pass as they are.

use std::{future::Future, sync::Arc};

use axum::body::Body;
use http::{Response, StatusCode};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use model::Refusal;

use crate::{
    account::{Account, End},
    admit::Lease,
    download::{Line, with_causes},
    lease,
    response::{self, Source},
    splice::{SpliceEnd, splice},
    surroundings::Surroundings,
};

/// Answers 101 with the device's headers, and splices once both sides have switched.
///
/// The device's 101 is read already: no byte of the client passes raw before it.
pub(crate) fn switch(
    around: &Arc<Surroundings>,
    client: OnUpgrade,
    switched: Response<Incoming>,
    line: Line,
    lease: Lease,
    source: &Source<'_>,
) -> Result<(Response<Body>, impl FnOnce(Account) + use<>), Refusal> {
    let headers = response::for_upgrade(switched.headers(), source)?;
    let device = hyper::upgrade::on(switched);
    let around = Arc::clone(around);
    let begin = move |mut account: Account| {
        let tasks = around.tasks.clone();
        tasks.spawn(async move {
            let end = relay(&around, client, device, &lease, &account).await;
            account.ended(end);
            drop(line);
        });
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok((response, begin))
}

async fn relay(
    around: &Surroundings,
    client: impl Future<Output = hyper::Result<Upgraded>>,
    device: impl Future<Output = hyper::Result<Upgraded>>,
    lease: &Lease,
    account: &Account,
) -> End {
    let (client, device) = match tokio::try_join!(client, device) {
        Ok(both) => both,
        Err(error) => return End::Broken(with_causes(&error)),
    };
    let (mut client, mut device) = (TokioIo::new(client), TokioIo::new(device));
    let bytes = account.bytes();
    tokio::select! {
        end = splice(&mut client, &mut device, around.timeouts.idle, &bytes) => match end {
            SpliceEnd::Finished => End::Complete,
            SpliceEnd::Client => End::ClientGone,
            SpliceEnd::Device(error) => End::Broken(with_causes(&error)),
            SpliceEnd::Idle => End::Cut("nothing was said for too long"),
        },
        end = lease::ended(lease, &around.registry, &around.clock) => End::Cut(end.as_str()),
    }
}
