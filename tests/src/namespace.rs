//! A network of its own for a program, joined to ours by one cable that can be cut.

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

/// A network namespace, gone with its value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    cable: String,
    ours: Ipv4Addr,
    theirs: Ipv4Addr,
}

impl Namespace {
    /// Makes it, with a cable between our address and its own.
    ///
    /// # Panics
    /// Without the right to make one (root, or sudo without a password).
    pub fn new() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let process = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tmx{process}x{count}");
        let cable = format!("tm{process}x{count}");
        // A quarter of 10.212.0.0/16 for each process and count; they are few and short-lived.
        let base = ((process.wrapping_mul(4).wrapping_add(u32::from(count))) % 0x4000) << 2;
        let address = |last: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 212, 0, 0)) | base | last);
        let made = Self { name, cable, ours: address(1), theirs: address(2) };
        as_root(["ip", "netns", "add", &made.name]);
        let far = format!("{}p", made.cable);
        as_root([
            "ip",
            "link",
            "add",
            &made.cable,
            "type",
            "veth",
            "peer",
            "name",
            &far,
            "netns",
            &made.name,
        ]);
        as_root(["ip", "addr", "add", &format!("{}/30", made.ours), "dev", &made.cable]);
        as_root(["ip", "link", "set", &made.cable, "up"]);
        made.inside(["ip", "addr", "add", &format!("{}/30", made.theirs), "dev", &far]);
        made.inside(["ip", "link", "set", &far, "up"]);
        made.inside(["ip", "link", "set", "lo", "up"]);
        made
    }

    /// Our end of the cable.
    pub fn ours(&self) -> Ipv4Addr {
        self.ours
    }

    /// Lets every packet vanish, both ways, without a word to anybody.
    pub fn cut(&self) {
        for chain in ["INPUT", "OUTPUT"] {
            self.inside(["iptables", "-I", chain, "!", "-i", "lo", "-j", "DROP"].map(|word| {
                match (chain, word) {
                    ("OUTPUT", "-i") => "-o",
                    (_, word) => word,
                }
            }));
        }
    }

    /// Mends the cable.
    pub fn mend(&self) {
        self.inside(["iptables", "-F"]);
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = if is_root() {
            Command::new("ip")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "ip"]);
            sudo
        };
        command.env("PATH", path()).args(["netns", "exec", &self.name]).arg(program);
        command
    }

    fn inside<const N: usize>(&self, words: [&str; N]) {
        let mut all = vec!["ip", "netns", "exec", &self.name];
        all.extend(words);
        as_root(all);
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What sudo started does not end with sudo.
        if let Ok(output) = root_command(["ip", "netns", "pids", &self.name]).output() {
            for id in String::from_utf8_lossy(&output.stdout).split_whitespace() {
                let _ = root_command(["kill", "-KILL", id]).output();
            }
        }
        for words in [["ip", "link", "del", &self.cable], ["ip", "netns", "del", &self.name]] {
            let _ = root_command(words).output();
        }
    }
}

/// Runs a command as root.
///
/// # Panics
/// If it fails, or there is no right to run it (root, or sudo without a password).
pub fn as_root<'a>(words: impl IntoIterator<Item = &'a str>) {
    let mut command = root_command(words);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} needs root, or sudo without a password: {said}");
}

fn root_command<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    let mut words = words.into_iter();
    let first = words.next().expect("a program");
    let mut command = if is_root() {
        Command::new(first)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", first]);
        sudo
    };
    command.env("PATH", path()).args(words);
    command
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("the kernel tells it");
    line.split_whitespace().nth(1) == Some("0")
}

fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
