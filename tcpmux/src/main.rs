//! The `tcpmux` command: reads what was typed, runs it, ends with the right exit code.

use std::process::ExitCode;

use clap::Parser;
use tcpmux::{cli, exit::Exit};

/// After thousands of handshakes the system's allocator holds more for each device and takes longer for each request
/// (decision 0012).
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let default_level = if matches!(cli.command, cli::Command::Up(_)) { "info" } else { "warn" };
    let level = cli.log_level.as_deref().unwrap_or(default_level);
    if let Err(error) = runtime::logs::init(cli.log, level) {
        return end(Exit::Usage, &error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Exit::Failed, &error),
    };
    let outcome = runtime.block_on(cli::run(cli));
    // A read of standard input that nobody will answer must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(failure.exit(), &failure),
    }
}

fn end(exit: Exit, words: &dyn std::fmt::Display) -> ExitCode {
    use std::io::Write;
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "tcpmux: {words}");
    exit.into()
}
