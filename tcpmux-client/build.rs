//! Tells the daemon when it was built: a device without a clock knows at least that it is not earlier. And tells the linker
//! of a small build to lay what the daemon hardly ever runs apart from the rest.

#![allow(clippy::disallowed_methods, reason = "a build script has no clock to be handed")]
#![allow(clippy::print_stdout, reason = "this is how cargo is spoken to")]

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    // Reproducible builds set this (reproducible-builds.org/specs/source-date-epoch).
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    println!("cargo::rustc-env=TCPMUX_BUILD_TIME={}", epoch.unwrap_or_else(now));
    println!("cargo::rerun-if-changed=rare.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // Not every linker reads scripts; what is built for speed or for a debugger can do without.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("OPT_LEVEL", "s") {
        println!("cargo::rustc-link-arg-bins=-T{}/rare.ld", env!("CARGO_MANIFEST_DIR"));
    }
}
