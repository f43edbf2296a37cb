//! What can be typed.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use model::{DeviceId, Fingerprint};
use tcpmux_client::{ServerAddress, ServiceSpec, config::DEFAULT_STATE, parse_ca};

/// Connects this device to its TCPMux cloud and serves local services through it.
#[derive(Debug, Parser)]
#[command(name = "tcpmux-client", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Form of the log: text or json [default: text]
    #[arg(long, global = true, env = "TCPMUX_CLIENT_LOG", value_name = "FORMAT")]
    pub(crate) log: Option<String>,
    /// error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, global = true, env = "TCPMUX_CLIENT_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Get this device's certificate with a one-time passcode
    Enroll(Enroll),
    /// Keep the tunnel and serve local services through it
    Run(Run),
    /// Tell who this device is and whether it is connected
    Status(Status),
    /// Print the code with which a person can claim this device
    #[command(after_help = CLAIM_NOTES)]
    Claim(Run),
    /// Give this device up: end its ownership and every grant on it
    #[command(after_help = RESET_NOTES)]
    Reset(Reset),
    /// Look for what stands between this device and its cloud
    Doctor(Run),
}

/// A passcode never comes as an argument: every user of the machine can read those.
#[derive(Debug, Args)]
#[command(after_help = ENROLL_EXAMPLES)]
pub(crate) struct Enroll {
    /// `-` reads one enrolment string (tcpmux://…) from standard input
    #[arg(value_name = "-", conflicts_with_all = ["server", "ca", "passcode_file"], required_unless_present = "server")]
    pub(crate) source: Option<String>,
    /// The cloud's device door
    #[arg(long, env = "TCPMUX_CLIENT_SERVER", value_name = "HOST:PORT", requires_all = ["ca", "passcode_file"])]
    pub(crate) server: Option<ServerAddress>,
    /// Fingerprint of the cloud's CA, as `tcpmux up` prints it
    #[arg(long, env = "TCPMUX_CLIENT_CA", value_name = "sha256:HEX", value_parser = parse_ca)]
    pub(crate) ca: Option<Fingerprint>,
    /// File that holds the passcode; `-` for standard input
    #[arg(long, env = "TCPMUX_CLIENT_PASSCODE_FILE", value_name = "FILE")]
    pub(crate) passcode_file: Option<PathBuf>,
    /// Name of this device, where the passcode is not bound to one [default: the host name]
    #[arg(long, env = "TCPMUX_CLIENT_DEVICE", value_name = "ID")]
    pub(crate) device: Option<DeviceId>,
    /// Where to keep key and certificate
    #[arg(long, env = "TCPMUX_CLIENT_STATE", value_name = "DIR", default_value = DEFAULT_STATE)]
    pub(crate) state: PathBuf,
    /// Of several ways out, take the one by this address of the machine
    #[arg(long, env = "TCPMUX_CLIENT_BIND", value_name = "ADDRESS", value_parser = parse_bind)]
    pub(crate) bind: Option<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Configuration file [default: /etc/tcpmux/client.toml, if it is there]
    #[arg(long, env = "TCPMUX_CLIENT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where key and certificate are [default: /var/lib/tcpmux-client]
    #[arg(long, env = "TCPMUX_CLIENT_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// A local service, as in web=http://127.0.0.1:8080 (http, https, tcp, unix); can be repeated
    #[arg(long = "service", env = "TCPMUX_CLIENT_SERVICE", value_name = "NAME=URL", value_delimiter = ' ')]
    pub(crate) services: Vec<ServiceSpec>,
    /// Answer no local programs
    #[arg(long, env = "TCPMUX_CLIENT_NO_LOCAL_API")]
    pub(crate) no_local_api: bool,
    /// Where the claim code is shown [default: claim_code in the state directory]
    #[arg(long, env = "TCPMUX_CLIENT_CLAIM_CODE", value_name = "FILE")]
    pub(crate) claim_code: Option<PathBuf>,
    /// Of several ways out, take the one by this address of the machine
    #[arg(long, env = "TCPMUX_CLIENT_BIND", value_name = "ADDRESS", value_parser = parse_bind)]
    pub(crate) bind: Option<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) run: Run,
    /// json for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub(crate) output: String,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) run: Run,
    /// Do not ask at the terminal
    #[arg(short, long)]
    pub(crate) yes: bool,
}

fn parse_bind(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(
        |_| "give an address of this machine, as in 192.0.2.7, not the name of an interface or a port",
    )
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 forbidden by the cloud, 5 passcode already used or refused, \
6 network, 7 not connected, 78 bad configuration";

const CLAIM_NOTES: &str = "The cloud sends a code when the device connects and has no owner. Whoever reads it can \
claim the device\nwhile it is connected, with POST /v1/claims at the cloud; then the code is gone. It comes alone on \
standard output.\n\nExit codes: 0 a code was printed, 1 no identity or no right to read the code, 5 the device has an owner, \
7 not connected yet";

const RESET_NOTES: &str = "For whoever has the device in hand: before it is sold, or to take it over. The cloud ends \
the ownership, every\ngrant, and what was opened with them; the device stays enrolled and shows a new claim code. It is \
asked with the\ndevice's certificate, beside a daemon that runs or without one.\n\n\
It works where the cloud's operator has set [claims] factory_reset = \"device\". Elsewhere the owner releases a \
device\n(DELETE /v1/devices/ID/owner), so that a thief gains nothing by a reset.\n\n\
Exit codes: 0 nobody owns it now, 1 no identity, or failed, 2 no --yes and no terminal, 3 the cloud does not allow it,\n\
6 the cloud cannot be reached";

const ENROLL_EXAMPLES: &str = "Examples:
  tcpmux-client enroll -                    then paste the tcpmux://… string of `tcpmux passcode new`
  tcpmux-client enroll --server cloud.example.com:7443 --ca sha256:3f9c… \\
                       --device cam-01 --passcode-file /run/otp";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn enroll_takes_a_string_or_flags_and_never_a_passcode() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("tcpmux-client enroll -").is_ok());
        assert!(parse("tcpmux-client enroll").is_err());
        assert!(parse("tcpmux-client enroll --server h:1").is_err());
        assert!(parse("tcpmux-client enroll --passcode X").is_err());
        let ca = "ab".repeat(32);
        assert!(
            parse(&format!("tcpmux-client enroll --server h:1 --ca sha256:{ca} --passcode-file /x")).is_ok()
        );
        assert!(
            parse(&format!("tcpmux-client enroll - --server h:1 --ca sha256:{ca} --passcode-file /x"))
                .is_err()
        );
    }

    #[test]
    fn the_way_out_is_an_address_of_the_machine() {
        for line in ["tcpmux-client enroll -", "tcpmux-client run", "tcpmux-client doctor"] {
            let parse = |bind: &str| Cli::try_parse_from(line.split(' ').chain(["--bind", bind]));
            for good in ["192.0.2.7", "2001:db8::7"] {
                let bind = match parse(good).unwrap().command {
                    Command::Enroll(enroll) => enroll.bind,
                    Command::Run(run) | Command::Doctor(run) => run.bind,
                    other => panic!("{other:?}"),
                };
                assert_eq!(bind.unwrap().to_string(), good, "{line}");
            }
            for bad in ["eth0", "192.0.2.7:0", ""] {
                let error = parse(bad).unwrap_err().to_string();
                assert!(error.contains("--bind") && error.contains("as in 192.0.2.7"), "{line}: {error}");
            }
        }
    }

    #[test]
    fn services_can_be_repeated() {
        let line = "tcpmux-client run --service a=tcp://127.0.0.1:1 --service b=unix:/x --state /tmp/s";
        let Command::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!(run.services.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
