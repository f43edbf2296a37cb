//! The commands, one file each.

mod claim;
mod doctor;
mod enroll;
mod reset;
mod run;
mod status;

use std::path::{Path, PathBuf};

use runtime::logs;
use tcpmux_client::{
    DaemonConfig, Proxies,
    config::{ConfigFile, DEFAULT_CONFIG, LogSection, Overrides},
};

use crate::{
    cli::{Cli, Command, Run},
    outcome::{BAD_CONFIGURATION, Failure},
};

/// Does what was asked; gives the code to exit with.
pub(crate) async fn execute(cli: Cli) -> Result<u8, Failure> {
    let log = LogSection { format: cli.log, level: cli.log_level };
    match cli.command {
        Command::Enroll(arguments) => {
            start_log(&log, &LogSection::default(), "warn")?;
            enroll::enroll(arguments).await
        }
        Command::Run(arguments) => {
            let file = config_file(&arguments)?;
            start_log(&log, &file.log, "info")?;
            run::run(daemon_config(file, arguments)?).await
        }
        Command::Status(arguments) => {
            start_log(&log, &LogSection::default(), "error")?;
            status::status(daemon_config(config_file(&arguments.run)?, arguments.run)?, &arguments.output)
                .await
        }
        Command::Claim(arguments) => {
            start_log(&log, &LogSection::default(), "error")?;
            claim::claim(daemon_config(config_file(&arguments)?, arguments)?).await
        }
        Command::Reset(arguments) => {
            start_log(&log, &LogSection::default(), "error")?;
            let config = daemon_config(config_file(&arguments.run)?, arguments.run)?;
            reset::reset(config, arguments.yes).await
        }
        Command::Doctor(arguments) => {
            start_log(&log, &LogSection::default(), "error")?;
            doctor::doctor(daemon_config(config_file(&arguments)?, arguments)?).await
        }
    }
}

fn config_file(arguments: &Run) -> Result<ConfigFile, Failure> {
    let default = || Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| Path::exists(path));
    let path = arguments.config.clone().or_else(default);
    Ok(ConfigFile::read(path.as_deref())?)
}

fn daemon_config(file: ConfigFile, arguments: Run) -> Result<DaemonConfig, Failure> {
    let Run { config: _, state, services, no_local_api, claim_code, bind } = arguments;
    let proxies = Proxies::from_environment().map_err(|error| Failure::new(BAD_CONFIGURATION, error))?;
    Ok(file.daemon(Overrides { state, services, no_local_api, claim_code, bind }, proxies)?)
}

fn start_log(flags: &LogSection, file: &LogSection, default: &str) -> Result<(), Failure> {
    let bad = |error: String| Failure::new(BAD_CONFIGURATION, error);
    let format = flags.format.as_deref().or(file.format.as_deref()).unwrap_or("text");
    let level = flags.level.as_deref().or(file.level.as_deref()).unwrap_or(default);
    logs::init(format.parse::<logs::Format>().map_err(bad)?, level).map_err(bad)
}
