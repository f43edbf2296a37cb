//! The house: every part of the cloud, in the order in which it starts, joined by the seams.

mod delivery;
mod door_certificate;
mod doors;
mod faults;
mod health;
mod openapi;
mod outlets;
mod parts;
mod visits;

use std::{net::SocketAddr, time::Duration};

use runtime::{Clock, Tasks, http::RouteSpec};

use crate::{
    config::{Config, Layers},
    data::{DataDirectory, Listening},
    exit::{Exit, Failure},
};
use parts::Parts;

/// A cloud that runs.
pub struct House {
    config: Config,
    data: DataDirectory,
    listening: Listening,
    parts: Parts,
    inventory: Vec<(&'static str, RouteSpec)>,
    is_new: bool,
    tasks: Tasks,
}

impl House {
    /// Starts every part, opens the doors, and announces them in `listening.json`.
    ///
    /// # Errors
    /// Exit 78 if the configuration names files that cannot be used; else exit 1.
    pub async fn build(config: Config, data: DataDirectory, clock: Clock) -> Result<Self, Failure> {
        let tasks = Tasks::new();
        let (admin_key, is_new) = data.admin_key().map_err(failed)?;
        // Bound first: tokens, links and enrolment strings name the ports.
        let sockets = doors::Sockets::bind(&config).await?;
        let listening = sockets.listening(&config);
        let parts = Parts::start(&config, &data, &listening, admin_key, clock.clone(), tasks.clone()).await?;
        let inventory = doors::open(sockets, &config, &parts, clock, &tasks)?;
        data.announce(&listening).map_err(failed)?;
        tracing::info!(user = ?listening.user, device = ?listening.device, admin = ?listening.admin, "doors are open");
        Ok(Self { config, data, listening, parts, inventory, is_new, tasks })
    }

    /// The addresses that the doors are bound to.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// `sha256:` and the hex SHA-256 of the root certificate; empty without an internal CA.
    pub fn root_fingerprint(&self) -> String {
        self.parts.root_fingerprint().unwrap_or_default()
    }

    /// Every route of every door.
    pub fn inventory(&self) -> &[(&'static str, RouteSpec)] {
        &self.inventory
    }

    /// What an operator should read at start.
    pub fn greeting(&self) -> Vec<String> {
        let mut lines =
            vec![format!("tcpmux {}  data {}", env!("CARGO_PKG_VERSION"), self.data.path().display())];
        if let Some(fingerprint) = self.parts.root_fingerprint() {
            let what = if self.is_new { "created" } else { "found" };
            lines.push(format!("  {what:<10} root CA    {fingerprint}"));
        }
        lines.push(format!("  admin key  {}", self.data.path().join(crate::data::ADMIN_KEY).display()));
        let mut door = |name: &str, address: Option<SocketAddr>| {
            if let Some(address) = address {
                lines.push(format!("  {name:<10} https://{address}"));
            }
        };
        door("user", self.listening.user);
        door("device", self.listening.device);
        door("admin", self.listening.admin);
        lines.push(format!("  public     {}", self.listening.public_url));
        if self.config.public_url.is_empty() {
            lines.push("  note       public_url is not set: tokens and links name localhost".into());
        }
        if self.parts.provisioning.is_some() {
            lines.push(format!(
                "\n  next       tcpmux passcode new --data {} --device cam-01",
                self.data.path().display()
            ));
        }
        lines
    }

    /// Takes nothing new, lets live requests finish within the grace period, ends.
    pub async fn drain(&self) {
        let grace = self.config.drain.grace;
        self.tasks.begin_drain();
        if let Some(tunnels) = &self.parts.tunnels {
            tunnels.drain(grace).await;
        }
        self.tasks.end();
        if !self.tasks.wait(AFTER_THE_END).await {
            tracing::warn!(tasks = self.tasks.len(), "some tasks did not end");
        }
        self.parts.close().await;
    }
}

/// Every route of a cloud with all roles, read off one that is built for the purpose.
///
/// # Errors
/// If it cannot be built.
pub async fn inventory() -> Result<Vec<(&'static str, RouteSpec)>, Failure> {
    let directory = tempfile::tempdir().map_err(anyhow::Error::from)?;
    let data = DataDirectory::open(&directory.path().join("data")).map_err(failed)?;
    let config = Layers::defaults()
        .with_text(ANYWHERE, "the inventory's settings")
        .and_then(|layers| layers.build())
        .map_err(|error| Failure::new(Exit::Configuration, error))?;
    let house = House::build(config, data, Clock::system()).await?;
    let inventory = house.inventory.clone();
    house.drain().await;
    Ok(inventory)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// Exit 78, with the whole chain of causes.
fn misconfigured(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Configuration, format!("{:#}", error.into()))
}

const AFTER_THE_END: Duration = Duration::from_secs(3);
const ANYWHERE: &str = r#"
[listen]
user = "127.0.0.1:0"
device = "127.0.0.1:0"
admin = "127.0.0.1:0"
[drain]
grace = "0s"
"#;
