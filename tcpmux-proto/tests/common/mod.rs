//! What the driver's stories share.

use std::time::Duration;

use model::{Level, RequestId};
use tcpmux_proto::{Destination, StreamHeader, StreamKind, TunnelStream, testing::Pair};

/// A greeted tunnel whose drivers run.
#[allow(dead_code)]
pub async fn pair() -> Pair {
    Pair::new(|driver| drop(tokio::task::spawn(driver))).await
}

/// A header for a stream of this kind.
pub fn header(kind: StreamKind) -> StreamHeader {
    StreamHeader {
        kind,
        service: match kind {
            StreamKind::Agent => Destination::Agent,
            _ => Destination::Service("web".parse().unwrap()),
        },
        deadline: Duration::from_secs(5),
        request_id: RequestId::from_random([7; 16]),
        trace_id: [1; 16],
        client: "192.0.2.1".into(),
        principal: [2; 32],
        level: Level::Operator,
        assertion: None,
    }
}

/// One accepted stream, both ends.
#[allow(dead_code)]
pub async fn stream(pair: &mut Pair, kind: StreamKind) -> (TunnelStream, TunnelStream) {
    let mut cloud = pair.cloud.open(header(kind)).unwrap();
    let (accepted, device) = tokio::join!(cloud.accepted(), async {
        let stream = pair.device.incoming.next().await.unwrap();
        assert_eq!(stream.header, header(kind));
        stream.accept().await
    });
    accepted.unwrap();
    (cloud, device)
}
