//! What becomes of a stream that the cloud opens: allowed, connected, spliced.

use std::{io, sync::Arc, time::Duration};

use model::Level;
use runtime::Tasks;
use tcpmux_proto::{Destination, Incoming, IncomingStream, OpenError, StreamHeader, StreamKind};
use tokio::time::timeout;

use crate::{
    agent::Agent,
    local::LocalStream,
    services::{Service, Services},
    splice::{self, splice},
    target::LocalTarget,
};

/// Serves every stream of a session, each in its own task, until the session ends.
pub(crate) async fn serve(mut incoming: Incoming, services: Arc<Services>, agent: Agent, tasks: Tasks) {
    while let Some(stream) = incoming.next().await {
        if stream.header.kind == StreamKind::Agent {
            let agent = agent.clone();
            tasks.spawn(async move { agent.serve(stream).await });
            continue;
        }
        let services = Arc::clone(&services);
        tasks.spawn(async move { serve_stream(stream, &services).await });
    }
}

async fn serve_stream(stream: IncomingStream, services: &Services) {
    let (request, service, kind) =
        (stream.header.request_id.clone(), stream.header.service.clone(), stream.header.kind);
    match open(&stream.header, services).await {
        Ok(local) => {
            tracing::debug!(%request, %service, "stream connected");
            let ended = splice(stream.accept().await, local, kind).await;
            match ended {
                splice::Ended::Complete => tracing::debug!(%request, %service, "stream complete"),
                splice::Ended::ByCloud(error) => {
                    tracing::debug!(%request, %service, %error, "stream ended by the cloud");
                }
                splice::Ended::ByService(error) => {
                    tracing::debug!(%request, %service, %error, "stream reset by the local service");
                }
            }
        }
        Err(error) => {
            tracing::debug!(%request, %service, %error, "stream refused");
            stream.reject(error);
        }
    }
}

/// The local connection for a stream, or the answer to give instead.
async fn open(header: &StreamHeader, services: &Services) -> Result<LocalStream, OpenError> {
    let service = allowed(header, services)?;
    let _turn = service.dialing.try_acquire().map_err(|_| OpenError::Busy)?;
    // The cloud gives up at its deadline; the answer should be there a little before.
    let limit = CONNECT_LIMIT.min(header.deadline.mul_f64(0.9));
    match timeout(limit, LocalStream::connect(&service.target)).await {
        Ok(Ok(local)) => Ok(local),
        Ok(Err(error)) => {
            tracing::info!(service = %service.name, %error, "a local service cannot be reached");
            Err(refusal_for(&error))
        }
        Err(_) => Err(OpenError::TimedOut),
    }
}

/// The device's own rules: only listed services, and no more than the caller's level says, whatever the
/// cloud thinks.
fn allowed<'a>(header: &StreamHeader, services: &'a Services) -> Result<&'a Service, OpenError> {
    let Destination::Service(name) = &header.service else { return Err(OpenError::UnknownService) };
    let service = services.find(name).ok_or(OpenError::UnknownService)?;
    let raw = header.kind == StreamKind::Tcp || matches!(service.target, LocalTarget::Tcp(_));
    if raw && header.level < Level::Operator { Err(OpenError::Forbidden) } else { Ok(service) }
}

fn refusal_for(error: &io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::TimedOut => OpenError::TimedOut,
        // Out of descriptors or ports: the device is at its limit, the service is not to blame.
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => OpenError::Busy,
        io::ErrorKind::AddrNotAvailable => OpenError::Busy,
        _ => OpenError::Refused,
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(4);
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::services::ServiceSpec;

    fn header(service: &str, kind: StreamKind, level: Level) -> StreamHeader {
        StreamHeader { level, ..tcpmux_proto::testing::header(service, kind) }
    }

    fn services(list: &[&str]) -> Services {
        let specs: Vec<ServiceSpec> = list.iter().map(|text| text.parse().unwrap()).collect();
        Services::new(&specs, false, None).unwrap()
    }

    #[test]
    fn only_what_is_listed_and_no_more_than_the_level_says() {
        let services = services(&["web=http://127.0.0.1:1", "shell=tcp://127.0.0.1:22", "sock=unix:/x"]);
        let verdict =
            |service: &str, kind, level| allowed(&header(service, kind, level), &services).map(drop);
        let (viewer, operator) = (Level::Viewer, Level::Operator);
        assert_eq!(verdict("web", StreamKind::Http, viewer), Ok(()));
        assert_eq!(verdict("web", StreamKind::Tcp, operator), Ok(()));
        assert_eq!(verdict("web", StreamKind::Tcp, viewer), Err(OpenError::Forbidden));
        assert_eq!(verdict("shell", StreamKind::Tcp, operator), Ok(()));
        assert_eq!(verdict("shell", StreamKind::Http, viewer), Err(OpenError::Forbidden));
        assert_eq!(verdict("sock", StreamKind::Http, viewer), Ok(()));
        assert_eq!(verdict("nothing", StreamKind::Http, Level::Owner), Err(OpenError::UnknownService));
        assert_eq!(verdict("tcpmux.agent", StreamKind::Agent, Level::Owner), Err(OpenError::UnknownService));
    }

    #[test]
    fn a_service_name_with_host_and_port_cannot_even_be_said() {
        assert!("127.0.0.1:22".parse::<Destination>().is_err());
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_refused() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let services = services(&[&format!("web=http://{free}"), "sock=unix:/nowhere/x.sock"]);
        for name in ["web", "sock"] {
            let outcome = open(&header(name, StreamKind::Http, Level::Owner), &services).await;
            assert_eq!(outcome.unwrap_err(), OpenError::Refused);
        }
    }

    #[tokio::test]
    async fn connections_under_way_are_bounded_and_those_that_stand_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let services = services(&[&format!("web=http://{}", listener.local_addr().unwrap())]);
        let header = header("web", StreamKind::Http, Level::Owner);
        let service = services.find(&"web".parse().unwrap()).unwrap();
        let mut open_ones = vec![];
        for _ in 0..100 {
            open_ones.push(open(&header, &services).await.unwrap());
        }
        let _all = service.dialing.try_acquire_many(64).unwrap();
        assert_eq!(open(&header, &services).await.unwrap_err(), OpenError::Busy);
    }

    #[tokio::test]
    async fn a_tls_service_that_never_answers_times_out_before_the_cloud_gives_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let services = services(&[&format!("web=https://{}", listener.local_addr().unwrap())]);
        let mut header = header("web", StreamKind::Http, Level::Owner);
        header.deadline = Duration::from_millis(100);
        assert_eq!(open(&header, &services).await.unwrap_err(), OpenError::TimedOut);
    }

    #[test]
    fn faults_of_the_device_are_told_from_refusals() {
        assert_eq!(refusal_for(&io::Error::from_raw_os_error(EMFILE)), OpenError::Busy);
        assert_eq!(refusal_for(&io::ErrorKind::TimedOut.into()), OpenError::TimedOut);
        assert_eq!(refusal_for(&io::ErrorKind::ConnectionRefused.into()), OpenError::Refused);
        assert_eq!(refusal_for(&io::ErrorKind::PermissionDenied.into()), OpenError::Refused);
    }
}
