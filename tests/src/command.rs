//! Commands that end: what they answered, within a bound of time.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; 128 and the signal that ended it.
    pub code: i32,
    /// Standard output, as bytes.
    pub bytes: Vec<u8>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command with these bytes on its standard input, 60 seconds at most.
///
/// # Panics
/// If it cannot be started or does not end in time.
pub async fn run<I, S>(program: impl AsRef<OsStr>, arguments: I, input: &[u8]) -> Finished
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    run_within(Duration::from_secs(60), program, arguments, input).await
}

/// The same with another bound on its time.
///
/// # Panics
/// If it cannot be started or does not end in time.
pub async fn run_within<I, S>(
    time: Duration,
    program: impl AsRef<OsStr>,
    arguments: I,
    input: &[u8],
) -> Finished
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    use std::os::unix::process::ExitStatusExt;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let feed = async {
        // A program that does not read all of its input may be right.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = timeout(time, both).await.unwrap_or_else(|_| panic!("{shown}: no end"));
    let output = output.expect("a child can be waited for");
    Finished {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default()),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        bytes: output.stdout,
    }
}

/// Runs a command that has to end with 0; its standard output.
///
/// # Panics
/// With all it said, if it ends otherwise.
pub async fn run_ok<I, S>(program: impl AsRef<OsStr>, arguments: I, input: &[u8]) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let name = program.as_ref().to_string_lossy().into_owned();
    let finished = run(program, arguments, input).await;
    assert_eq!(finished.code, 0, "{name}: {}\n{}", finished.stdout, finished.stderr);
    finished.stdout
}
