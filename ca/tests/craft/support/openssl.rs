//! Runs the openssl program, which must be installed.

use std::{path::Path, process::Command};

/// What it printed, if it succeeded.
pub(crate) fn openssl(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output();
    let output = output.expect("these tests need the openssl program");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// The same for arguments without spaces inside.
pub(crate) fn run(directory: &Path, line: &str) -> Result<String, String> {
    openssl(directory, &line.split_whitespace().collect::<Vec<_>>())
}

/// A request that openssl makes: a key by these genpkey arguments, then `req -new` with these.
pub(crate) fn request(directory: &Path, key: &str, arguments: &str) -> Vec<u8> {
    run(directory, &format!("genpkey {key} -out key.pem")).unwrap();
    run(directory, &format!("req -new -key key.pem -outform DER -out request.der {arguments}")).unwrap();
    std::fs::read(directory.join("request.der")).unwrap()
}
