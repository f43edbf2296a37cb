//! The command line: what may be typed, and which command answers it.

mod admin;
mod audit;
mod configure;
mod connect;
mod doctor;
mod listings;
mod login;
mod output;
mod signed_in;
mod status;
mod tenants;
mod up;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use model::{DeviceId, Fingerprint, Level, ServiceName, TenantName};

use crate::exit::Failure;

pub use admin::{AdminArgs, admin_client};
pub use audit::Anchor;
pub use output::Output;

/// The whole device cloud in one binary, and the operator's commands for it.
#[derive(Debug, Parser)]
#[command(name = "tcpmux", version, about, max_term_width = 100)]
pub struct Cli {
    /// Form of the log on standard error
    #[arg(long, env = "TCPMUX_LOG", default_value = "text", value_name = "json|text", global = true)]
    pub log: runtime::logs::Format,
    /// How much to log: error, warn, info, debug, trace, or a filter such as info,cloud_proxy=debug
    #[arg(long, env = "TCPMUX_LOG_LEVEL", value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be typed.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the cloud
    Up(Box<UpArgs>),
    /// Run the whole product on this machine: cloud, sign-in provider, three devices, a self-check
    Demo(DemoArgs),
    /// Tell how the cloud is
    Status {
        /// Where the cloud is.
        #[command(flatten)]
        admin: AdminArgs,
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List, show or remove devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Make, list or remove one-time passcodes
    #[command(subcommand)]
    Passcode(PasscodeCommand),
    /// List, show or revoke device certificates
    #[command(subcommand)]
    Cert(CertCommand),
    /// List, make or remove tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Read the log of acts, and check that nobody changed it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Sign in as a person, by a code that is entered in a browser
    Login(login::LoginArgs),
    /// Sign out, and forget what `login` kept
    Logout,
    /// Get a proxy token for one device: as an operator (works before any provider is set up, and is audited), or
    /// as the person who is signed in
    Token {
        /// Where the cloud is.
        #[command(flatten)]
        scope: Scope,
        /// The device
        #[arg(long)]
        device: DeviceId,
        /// As an operator: viewer, operator or owner [default: operator]
        #[arg(long)]
        level: Option<Level>,
        /// As an operator: how long it is good for, as in 5m [default: 5m]
        #[arg(long)]
        ttl: Option<String>,
    },
    /// Join standard input and output to a TCP service of a device (for ssh's ProxyCommand)
    Connect(ConnectArgs),
    /// Look for what is wrong with this cloud, and say what to do
    Doctor {
        /// Where the cloud is.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List every route of every door, with who may call it
    Routes {
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Settings of a cloud, as flags.
#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "TCPMUX_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory: CA, keys, database [default: ./tcpmux-data]
    #[arg(long, env = "TCPMUX_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What this process does, as in tunnel,proxy,provision,gateway
    #[arg(long, value_name = "LIST")]
    pub roles: Option<String>,
    /// Address of the user door [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDR")]
    pub user_listen: Option<String>,
    /// Address of the device door [default: 0.0.0.0:7443]
    #[arg(long, value_name = "ADDR")]
    pub device_listen: Option<String>,
    /// Address of the admin door [default: 127.0.0.1:9443]
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// Address of the peer door [default: off]
    #[arg(long, value_name = "ADDR")]
    pub peer_listen: Option<String>,
    /// What tokens, links and certificates name, as in `https://cloud.example.com`
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Offer `https://{device}.DOMAIN/`
    #[arg(long, value_name = "DOMAIN")]
    pub device_domain: Option<String>,
    /// Where facts are kept: sqlite
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Where live state is shared: memory, or redis://HOST:PORT (rediss:// for TLS) for several nodes
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

/// How the demo runs.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Run the self-check, print a line a step, and end with 0 or 1
    #[arg(long)]
    pub once: bool,
    /// Where the demo keeps its state [default: ./.tcpmux-demo, with --once a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Where the cloud is, and in which tenant.
#[derive(Debug, Clone, Args)]
pub struct Scope {
    /// Where the cloud is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The tenant
    #[arg(long, default_value_t)]
    pub tenant: TenantName,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `tcpmux device …`
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List the devices
    Ls(Scope),
    /// Show one device
    Get {
        /// The device
        device: DeviceId,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
    /// Remove a device: its tunnel, certificates, grants, ownership and tokens end
    Rm {
        /// The device
        device: DeviceId,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
}

/// `tcpmux passcode …`
#[derive(Debug, Subcommand)]
pub enum PasscodeCommand {
    /// Make a passcode; it is shown this once
    New {
        /// Bind it to this device
        #[arg(long)]
        device: Option<DeviceId>,
        /// How long it is good for, as in 1h
        #[arg(long)]
        ttl: Option<String>,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
    /// List passcodes, without their secrets
    Ls(Scope),
    /// Remove a passcode
    Rm {
        /// Its id, as listed
        id: String,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
}

/// `tcpmux cert …`
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// List certificates
    Ls(Scope),
    /// Show one certificate
    Get {
        /// SHA-256 of its DER in hex
        fingerprint: Fingerprint,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
    /// Revoke a certificate and every other unexpired one of its device; its tunnel ends now
    Revoke {
        /// SHA-256 of its DER in hex
        fingerprint: Fingerprint,
        /// unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation
        #[arg(long, default_value = "unspecified")]
        reason: String,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
}

/// `tcpmux tenant …`
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// List tenants
    Ls(Scope),
    /// Make a tenant
    New {
        /// Its name
        name: TenantName,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
    /// Remove a tenant with everything in it: devices, certificates, people, events
    Rm {
        /// Its name
        name: TenantName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Where and how.
        #[command(flatten)]
        scope: Scope,
    },
}

/// `tcpmux audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List the newest rows
    Ls {
        /// Where the cloud is.
        #[command(flatten)]
        admin: AdminArgs,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Write every row to standard output, a line of JSON each
    Export {
        /// Where the cloud is.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Read every row and check that each follows from the one before; 1 names the first that does not
    Verify {
        /// Where the cloud is.
        #[command(flatten)]
        admin: AdminArgs,
        /// Check this file, as `audit export` wrote it, instead of a running cloud
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// A row that has to be there, as an earlier check printed it
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Option<Anchor>,
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// `tcpmux config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is right
    Check(Box<UpArgs>),
    /// Show every setting and where it came from, secrets hidden
    Show(Box<UpArgs>),
}

/// `tcpmux connect …`
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// The device
    pub device: DeviceId,
    /// Its TCP service
    pub service: ServiceName,
    /// Address of the cloud's user door, as in `https://cloud.example.com`
    #[arg(long, env = "TCPMUX_CLOUD", value_name = "URL")]
    pub cloud: Option<String>,
    /// PEM file with the CA of the cloud's certificate
    #[arg(long, env = "TCPMUX_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with a proxy token (mode 0600)
    #[arg(long, env = "TCPMUX_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Data directory of a cloud on this machine: address, CA and a token come from there
    #[arg(long, env = "TCPMUX_DATA", value_name = "DIR", conflicts_with_all = ["cloud", "token_file"])]
    pub data: Option<PathBuf>,
    /// The tenant, with --data
    #[arg(long, default_value_t)]
    pub tenant: TenantName,
}

/// Runs what was typed.
///
/// # Errors
/// With the exit code and the words to end with.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Up(args) => up::up(*args).await,
        Command::Demo(args) => crate::demo::run(args).await,
        Command::Status { admin, output } => status::status(&admin, output).await,
        Command::Device(command) => listings::device(command).await,
        Command::Passcode(command) => listings::passcode(command).await,
        Command::Cert(command) => listings::cert(command).await,
        Command::Tenant(command) => tenants::tenant(command).await,
        Command::Audit(command) => audit::audit(command).await,
        Command::Login(args) => login::login(args).await,
        Command::Logout => login::logout().await,
        Command::Token { scope, device, level, ttl } => listings::token(scope, device, level, ttl).await,
        Command::Connect(args) => connect::connect(args).await,
        Command::Doctor { admin } => doctor::doctor(&admin).await,
        Command::Config(command) => configure::configure(command),
        Command::Routes { output } => listings::routes(output).await,
    }
}
