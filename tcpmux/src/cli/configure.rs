//! From flags, environment and file to a configuration; `config check` and `config show`.

use super::{ConfigCommand, UpArgs, output};
use crate::{
    config::{Config, Layers},
    exit::{Exit, Failure},
};

/// The configuration that a command runs with.
///
/// # Errors
/// Exit 78, naming the key, where its value came from, and the remedy.
pub(super) fn configuration(args: &UpArgs) -> Result<Config, Failure> {
    layers(args).and_then(|layers| layers.build()).map_err(|error| Failure::new(Exit::Configuration, error))
}

pub(super) fn configure(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => {
            configuration(&args)?;
            output::line("ok");
        }
        ConfigCommand::Show(args) => {
            let layers = layers(&args).map_err(|error| Failure::new(Exit::Configuration, error))?;
            for (key, value, origin) in layers.shown() {
                output::line(format!("{:<36}  # {origin}", format!("{key} = {value}")));
            }
        }
    }
    Ok(())
}

fn layers(args: &UpArgs) -> Result<Layers, String> {
    let mut layers = Layers::defaults();
    if let Some(file) = &args.config {
        layers.file(file)?;
    }
    layers.environment(std::env::vars_os())?;
    for (flag, key, value) in [
        ("--roles", "roles", &args.roles),
        ("--user-listen", "listen.user", &args.user_listen),
        ("--device-listen", "listen.device", &args.device_listen),
        ("--admin-listen", "listen.admin", &args.admin_listen),
        ("--peer-listen", "listen.peer", &args.peer_listen),
        ("--public-url", "public_url", &args.public_url),
        ("--device-domain", "device_domain", &args.device_domain),
        ("--store", "store", &args.store),
        ("--registry", "registry", &args.registry),
    ] {
        if let Some(value) = value {
            layers.flag(flag, key, value)?;
        }
    }
    Ok(layers)
}
