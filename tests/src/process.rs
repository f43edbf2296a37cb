//! A program that runs beside the test: its output is kept, and it ends with its value.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use crate::eventually_within;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program without standard input; keeps what it says on both outputs.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, command: Command) -> Self {
        Self::start_with(name, command, Stdio::null())
    }

    /// The same with a standard input that ends when this process does, whatever ends it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_attached(name: &str, command: Command) -> Self {
        Self::start_with(name, command, Stdio::piped())
    }

    fn start_with(name: &str, mut command: Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            keep(child.stdout.take().expect("piped"), Arc::clone(&log)),
            keep(child.stderr.take().expect("piped"), Arc::clone(&log)),
        ];
        Self { name: name.to_owned(), child, log, readers }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far, both outputs.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by its name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Ends it the hard way and waits for the end; all it said is in the log then.
    pub fn kill(&mut self) -> ExitStatus {
        // A process that has ended already is as good as killed.
        let _ = self.child.kill();
        let status = self.child.wait().expect("a child can be waited for");
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of output does not panic");
        }
        status
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for the end; the exit code, or 128 and the signal that ended it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn exit_code(&mut self, time: Duration) -> i32 {
        let what = format!("the end of {}", self.name);
        let status = eventually_within(time, &what, || {
            let ended = self.ended();
            let last = ended.is_none().then(|| tail(&self.log(), 2000));
            async move { ended.ok_or(last) }
        })
        .await;
        self.kill();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Resident memory in KiB.
    ///
    /// # Panics
    /// If it has ended.
    pub fn resident_kib(&self) -> u64 {
        status_field(self.id(), "VmRSS:")
    }

    /// The most resident memory it ever had, in KiB.
    ///
    /// # Panics
    /// If it has ended.
    pub fn peak_resident_kib(&self) -> u64 {
        status_field(self.id(), "VmHWM:")
    }

    /// Its command line and its environment as the system shows them to its owner.
    ///
    /// # Panics
    /// If it has ended.
    pub fn command_line(&self) -> String {
        let read =
            |what| std::fs::read(format!("/proc/{}/{what}", self.id())).expect("a live process has it");
        String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).replace('\0', " ")
    }

    /// The numbers of the TCP ports it listens on.
    pub fn listening_ports(&self) -> Vec<u16> {
        let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", self.id()))
            .expect("a live process has it")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let mut ports = vec![];
        for table in ["tcp", "tcp6"] {
            let text =
                std::fs::read_to_string(format!("/proc/{}/net/{table}", self.id())).unwrap_or_default();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if fields[3] == LISTEN && sockets.iter().any(|inode| inode == fields[9]) {
                    let port = fields[1].rsplit(':').next().unwrap();
                    ports.push(u16::from_str_radix(port, 16).expect("a port in hex"));
                }
            }
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the last words of {}:\n{}\n---", self.name, tail(&self.log(), 6000));
        }
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
    assert!(status.expect("kill runs").success(), "no process {id} to send {name}");
}

fn keep(output: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = vec![];
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let mut log = log.lock().unwrap();
            if log.len() < MOST_LOG {
                log.push_str(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    })
}

fn status_field(id: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a live process has it");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

fn tail(text: &str, most: usize) -> String {
    let from = text.len().saturating_sub(most);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[from..].to_owned()
}

/// The kernel's number of the state.
const LISTEN: &str = "0A";
const MOST_LOG: usize = 64 * 1024 * 1024;
