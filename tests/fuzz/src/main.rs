//! Calls one target, named by the variable `FUZZ_TARGET`, with what libFuzzer makes.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use tests::fuzz::{TARGETS, Target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    let target = CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            panic!("FUZZ_TARGET={name}: the targets are {}", names.join(", "))
        })
    });
    if bytes.len() > target.longest {
        return Corpus::Reject;
    }
    (target.run)(bytes);
    Corpus::Keep
});
