//! `tcpmux-client doctor`: what stands between this device and its cloud.

use runtime::Clock;
use tcpmux_client::{
    DaemonConfig,
    doctor::{Verdict, examine},
};

use crate::outcome::{FAILED, Failure, NETWORK, say};

pub(crate) async fn doctor(config: DaemonConfig) -> Result<u8, Failure> {
    let findings = examine(&config, Clock::system()).await;
    let mut code = 0;
    for finding in &findings {
        say(finding);
        match finding.verdict {
            Verdict::Fault { network: true, .. } => code = NETWORK,
            Verdict::Fault { network: false, .. } if code == 0 => code = FAILED,
            _ => {}
        }
    }
    Ok(code)
}
