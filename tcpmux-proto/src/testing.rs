//! A whole tunnel in memory, for tests of the rooms above.

use std::time::Duration;

use model::{Generation, Level, RequestId, SessionId};
use tokio::io::{DuplexStream, duplex};

use crate::{
    Buffered, CloudControl, Driver, Greeted, Hello, ServiceOffer, SessionHandle, Settings, StreamHeader,
    StreamKind, Welcome, cloud, device,
};

/// The header of a stream to this service, by an operator; a test changes what it is about.
pub fn header(service: &str, kind: StreamKind) -> StreamHeader {
    StreamHeader {
        kind,
        service: service.parse().expect("a test names a service well"),
        deadline: Duration::from_secs(5),
        request_id: RequestId::from_random([7; 16]),
        trace_id: [1; 16],
        client: "192.0.2.1".into(),
        principal: [2; 32],
        level: Level::Operator,
        assertion: None,
    }
}

/// Both ends of a tunnel over a pipe in memory, greeted.
#[derive(Debug)]
pub struct Pair {
    /// The cloud's session: opens streams.
    pub cloud: SessionHandle,
    /// The cloud's control stream.
    pub cloud_control: CloudControl,
    /// The device's session, its incoming streams and its control stream.
    pub device: Greeted,
}

impl Pair {
    /// Builds a tunnel with default settings; `spawn` gets the two drivers (for instance
    /// `|driver| drop(tokio::task::spawn(driver))`).
    pub async fn new(spawn: impl FnMut(Driver<Buffered<DuplexStream>>)) -> Self {
        Self::with(Settings::default(), Settings::default(), spawn).await
    }

    /// Builds a tunnel with these settings.
    pub async fn with(
        cloud_settings: Settings,
        device_settings: Settings,
        spawn: impl FnMut(Driver<Buffered<DuplexStream>>),
    ) -> Self {
        Self::offering(Vec::new(), cloud_settings, device_settings, spawn).await
    }

    /// Builds a tunnel to a device that says it has these services.
    pub async fn offering(
        services: Vec<ServiceOffer>,
        cloud_settings: Settings,
        device_settings: Settings,
        mut spawn: impl FnMut(Driver<Buffered<DuplexStream>>),
    ) -> Self {
        let (cloud_io, device_io) = duplex(256 * 1024);
        let heartbeat = cloud_settings.heartbeat;
        let (driver, cloud_side) = cloud(Buffered::new(cloud_io), cloud_settings);
        spawn(driver);
        let (driver, device_side) = device(Buffered::new(device_io), device_settings);
        spawn(driver);
        let hello = Hello {
            agent_version: "0".into(),
            boot_id: "boot".into(),
            slot: 0,
            features: Vec::new(),
            claim_digest: None,
            services,
        };
        let welcome = Welcome {
            session: SessionId::from_random([0; 16]),
            generation: Generation(1),
            features: Vec::new(),
            heartbeat,
            limits: Default::default(),
        };
        let within = Duration::from_secs(5);
        let (cloud, device) = tokio::join!(
            async { cloud_side.hello(within).await?.welcome(welcome).await },
            device_side.greet(hello, within)
        );
        let (cloud, cloud_control) = cloud.expect("a device in memory says hello");
        let device = device.expect("a cloud in memory says welcome");
        Self { cloud, cloud_control, device }
    }
}
