//! `tcpmux up`: build the house, announce, wait, drain.

use std::path::PathBuf;

use runtime::Clock;

use super::{UpArgs, configure::configuration, output};
use crate::{
    DEFAULT_DATA,
    data::DataDirectory,
    exit::{Exit, Failure},
    house::House,
};

pub(super) async fn up(args: UpArgs) -> Result<(), Failure> {
    let config = configuration(&args)?;
    let path = args.data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    let data = DataDirectory::open(&path).map_err(|error| Failure::new(Exit::Failed, error))?;
    let grace = config.drain.grace;
    let house = House::build(config, data, Clock::system()).await?;
    for line in house.greeting() {
        output::line(line);
    }
    let signal = runtime::termination().await.map_err(anyhow::Error::from)?;
    tracing::info!(signal, grace_seconds = grace.as_secs(), "draining");
    tokio::select! {
        () = house.drain() => Ok(()),
        again = runtime::termination() => {
            tracing::warn!(signal = again.unwrap_or("signal"), "second signal: ending at once");
            Ok(())
        }
    }
}
