//! The daemon's command line.

mod cli;
mod command;
mod outcome;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    // One thread: a device has other things to do, and memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command::execute(cli)),
        Err(error) => Err(outcome::Failure::new(outcome::FAILED, format!("cannot start: {error}"))),
    };
    outcome::exit(outcome)
}
