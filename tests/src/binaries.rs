//! Where the programs are: next to the running test, built if they are missing; or where `PROGRAMS` says, since the long
//! proofs take optimised ones.

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
        let named = std::env::var_os("PROGRAMS").map(|directory| workspace().join(directory));
        let are_there = |directory: &Path| {
            ["tcpmux", "tcpmux-client", "bench"].iter().all(|name| directory.join(name).exists())
        };
        if let Some(directory) = named {
            assert!(are_there(&directory), "PROGRAMS: not all of them are in {}", directory.display());
            return directory;
        }
        let directory = beside_this_test();
        if !are_there(&directory) {
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
