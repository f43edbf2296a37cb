//! `tcpmux demo`: the whole product on loopback, and a self-check that walks the main path.

mod check;
mod provider;
mod services;
mod stage;

use crate::{
    cli::DemoArgs,
    exit::{Exit, Failure},
};

/// Runs the demo until a signal ends it; with `--once`, runs the self-check alone.
///
/// # Errors
/// Exit 1 if a step of the self-check fails.
pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let temporary;
    let data = match (&args.data, args.once) {
        (Some(data), _) => data.clone(),
        (None, false) => ".tcpmux-demo".into(),
        (None, true) => {
            temporary = tempfile::tempdir().map_err(anyhow::Error::from)?;
            temporary.path().join("demo")
        }
    };
    say("tcpmux demo   everything on loopback");
    let stage = stage::Stage::build(&data).await?;
    let outcome = check::walk(&stage, args.once).await;
    if let (Ok(()), false) = (&outcome, args.once) {
        for line in stage.suggestions() {
            say(line);
        }
        let ended = runtime::termination().await.map_err(anyhow::Error::from)?;
        tracing::info!(signal = ended, "ending the demo");
    }
    stage.leave().await;
    outcome.map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")))
}

fn say(line: impl AsRef<str>) {
    use std::io::Write;
    // A reader that went away does not end the demo.
    let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
}
