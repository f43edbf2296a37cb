//! The stage of most stories: a cloud, one device `cam-01` with services, an operator's token for it.

use http::Method;
use tests::{Call, Cloud, Device};

pub(crate) struct Stage {
    pub(crate) cloud: Cloud,
    pub(crate) device: Device,
    pub(crate) token: String,
}

impl Stage {
    pub(crate) async fn set(services: &[(&str, String)]) -> Self {
        Self::on(Cloud::start().await, services).await
    }

    pub(crate) async fn on(cloud: Cloud, services: &[(&str, String)]) -> Self {
        let device = Device::enrol_and_run(&cloud, "cam-01", services).await;
        let token = cloud.token("cam-01", "operator").await;
        Self { cloud, device, token }
    }

    /// A call under `/d/cam-01`, with the token.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        self.cloud.user().call(method, &format!("/d/cam-01{path}")).bearer(&self.token)
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    /// A request head as bytes, with the token and these further lines, each ended by CR LF.
    pub(crate) fn head(&self, request_line: &str, lines: &str) -> String {
        let host = self.cloud.user().authority();
        format!(
            "{request_line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n{lines}\r\n",
            self.token
        )
    }
}
