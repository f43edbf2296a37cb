//! Our own: a cloud that publishes five ports, and a daemon with the five services.

use tests::{Cloud, Device};

use crate::backend::Ports;

pub(crate) struct Ours {
    pub(crate) ports: Ports,
    pub(crate) cloud: Cloud,
    pub(crate) device: Device,
}

impl Ours {
    pub(crate) async fn start(backend: Ports) -> Self {
        let ports = Ports::free();
        let published = |(service, port)| {
            format!(
                "[[publish]]\nlisten = \"127.0.0.1:{port}\"\ndevice = \"{DEVICE}\"\nservice = \"{service}\"\n"
            )
        };
        let config: String = ports.named().into_iter().map(published).collect();
        let cloud = Cloud::plan().config(&config).log_level("warn").start().await;
        let services = backend.named().map(|(service, port)| {
            let scheme = if service == "web" || service == "split" { "http" } else { "tcp" };
            (service, format!("{scheme}://127.0.0.1:{port}"))
        });
        let device = Device::enrol_and_run(&cloud, DEVICE, &services).await;
        Self { ports, cloud, device }
    }
}

/// The one device that is measured.
pub(crate) const DEVICE: &str = "bench";
