//! `[device_gateway]`: what devices report, and how long their tokens are good.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::{duration, duration_text};

/// What devices may do at the device gateway.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceGateway {
    /// How long a device token is good.
    #[serde(deserialize_with = "duration", serialize_with = "duration_text")]
    pub token: Duration,
    /// Items of telemetry in a second, from each device.
    pub telemetry_per_second: u32,
    /// Notifications in a minute, from each device.
    pub notifications_per_minute: u32,
}

impl DeviceGateway {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(SHORTEST..=LONGEST).contains(&self.token) {
            return Err("device_gateway.token: between 10s and 1h".into());
        }
        for (key, number) in [
            ("telemetry_per_second", self.telemetry_per_second),
            ("notifications_per_minute", self.notifications_per_minute),
        ] {
            if !(1..=1_000_000).contains(&number) {
                return Err(format!("device_gateway.{key}: between 1 and 1000000"));
            }
        }
        Ok(())
    }
}

const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use crate::config::Layers;

    fn built(text: &str) -> Result<u64, String> {
        let mut layers = Layers::defaults();
        layers.text(&format!("[device_gateway]\n{text}"), "cloud.toml")?;
        layers.build().map(|config| config.device_gateway.token.as_secs())
    }

    #[test]
    fn tokens_and_shares_keep_to_their_bounds() {
        assert_eq!(built(""), Ok(900));
        assert_eq!(built("token = \"10s\"\ntelemetry_per_second = 1"), Ok(10));
        for bad in
            ["token = \"9s\"", "token = \"2h\"", "telemetry_per_second = 0", "notifications_per_minute = 0"]
        {
            let problem = built(bad).unwrap_err();
            assert!(problem.contains("device_gateway"), "{problem}");
        }
    }

    #[test]
    fn the_environment_can_say_a_number() {
        let mut layers = Layers::defaults();
        let name = "TCPMUX_DEVICE_GATEWAY__TELEMETRY_PER_SECOND";
        layers.environment([(name.into(), "7".into())]).unwrap();
        assert_eq!(layers.build().unwrap().device_gateway.telemetry_per_second, 7);
    }
}
