//! `tcpmux-client reset`: whoever has the device in hand ends its ownership, where the cloud's operator lets them.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};

use runtime::Clock;
use tcpmux_client::{DaemonConfig, Identity, ResetError, reset as reset_device};

use crate::outcome::{FAILED, FORBIDDEN, Failure, NETWORK, USAGE, say};

pub(crate) async fn reset(config: DaemonConfig, is_confirmed: bool) -> Result<u8, Failure> {
    let identity = config.identity()?;
    if !is_confirmed {
        confirm(&identity)?;
    }
    reset_device(&config, Clock::system()).await.map_err(failure)?;
    say(format_args!(
        "nobody owns {} any more, and every grant on it has ended\n\
         `tcpmux-client claim` prints its new code, seconds after it is connected",
        name(&identity)
    ));
    Ok(0)
}

fn failure(error: ResetError) -> Failure {
    let code = match &error {
        ResetError::Policy | ResetError::NotAccepted => FORBIDDEN,
        ResetError::Unreachable(_) | ResetError::Unanswered(_) => NETWORK,
        ResetError::State(_) | ResetError::NoSuchRoute(_) | ResetError::Refused { .. } => FAILED,
    };
    Failure::new(code, error)
}

/// Asks whoever sits at the terminal; without one, `--yes` is the only yes.
fn confirm(identity: &Identity) -> Result<(), Failure> {
    let (name, server) = (name(identity), &identity.server);
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new(
            USAGE,
            format_args!(
                "this takes {name} from its owner and from everybody who shares it, and there is no terminal to ask \
                 at; say --yes if that is meant"
            ),
        ));
    }
    let question = format!(
        "This takes {name} from its owner at {server} and from everybody who shares it, at once.\n\
         Write {name} to go on: "
    );
    // Standard output is for programs; who cannot read the question will not answer it.
    drop(write!(std::io::stderr(), "{question}").and_then(|()| std::io::stderr().flush()));
    let mut answer = String::new();
    let read = BufReader::new(input.take(LONGEST_ANSWER)).read_line(&mut answer);
    if read.is_ok() && answer.trim() == name {
        return Ok(());
    }
    Err(Failure::new(FAILED, "nothing was changed: that is not its name"))
}

fn name(identity: &Identity) -> &str {
    identity.device.as_ref().map_or("this device", |device| device.as_str())
}

const LONGEST_ANSWER: u64 = 256;
