//! Where the programs are: next to the running test, or where `PROGRAMS` says (the long proofs take optimised ones);
//! built if they are missing.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The `tcpmux` program.
pub fn cloud_program() -> PathBuf {
    built().join("tcpmux")
}

/// The `tcpmux-client` program.
pub fn client_program() -> PathBuf {
    built().join("tcpmux-client")
}

/// The `bench` program.
pub fn bench_program() -> PathBuf {
    built().join("bench")
}

/// The root of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace")
}

fn built() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = std::env::var_os("PROGRAMS")
            .map_or_else(beside_this_test, |directory| workspace().join(PathBuf::from(directory)));
        if !["tcpmux", "tcpmux-client", "bench"].iter().all(|name| directory.join(name).exists()) {
            build(&directory);
        }
        directory
    })
}

fn beside_this_test() -> PathBuf {
    let this = std::env::current_exe().expect("a test has a file");
    let directory = this.parent().expect("a file has a directory");
    if directory.ends_with("deps") { directory.parent().unwrap() } else { directory }.to_owned()
}

fn build(directory: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--locked", "--workspace", "--bins"]);
    if directory.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "the programs under test do not build: {status}");
}
