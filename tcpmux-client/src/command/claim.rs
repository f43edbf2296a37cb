//! `tcpmux-client claim`: the code, or why there is none.

use std::time::Duration;

use tcpmux_client::DaemonConfig;

use super::status::ask;
use crate::outcome::{CONFLICT, FAILED, Failure, OFFLINE, say};

pub(crate) async fn claim(config: DaemonConfig) -> Result<u8, Failure> {
    if let Some(code) = config.claim.read().map_err(|error| Failure::new(FAILED, error))? {
        say(code.reveal().expose());
        return Ok(0);
    }
    // Without an identity there is nothing to claim; that is the first thing to say.
    config.identity()?;
    let asked = match config.local_api {
        Some(address) => tokio::time::timeout(ASK_LIMIT, ask(address)).await.ok().flatten(),
        None => None,
    };
    Err(match asked {
        Some(status) if status.connected => Failure::new(
            CONFLICT,
            "this device shows no claim code: it has an owner, who can release it \
             (DELETE /v1/devices/ID/owner); a code that is on its way comes within seconds",
        ),
        Some(status) => Failure::new(
            OFFLINE,
            format_args!(
                "no claim code has come yet: this device is not connected ({})",
                status.last_error.as_deref().unwrap_or("it is trying")
            ),
        ),
        None => Failure::new(
            OFFLINE,
            format_args!(
                "there is no claim code in {}, and no daemon answers that could say why; \
                 start it: tcpmux-client run",
                config.claim.path().display()
            ),
        ),
    })
}

const ASK_LIMIT: Duration = Duration::from_secs(3);
