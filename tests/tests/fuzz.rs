//! Every reader of strangers' bytes, called with the inputs that are kept and with small changes of them. A fuzzer looks
//! for others: `scripts/prove fuzz`.

use std::{collections::BTreeSet, panic::catch_unwind, path::PathBuf};

use tests::{
    fuzz::{TARGETS, Target},
    workspace,
};

#[test]
fn no_kept_input_breaks_its_reader() {
    let broken: Vec<String> = TARGETS.iter().flat_map(broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_small_change_of_a_kept_input_breaks_its_reader() {
    for target in TARGETS {
        for (name, input) in inputs(target) {
            let mut random = Random(input.len() as u64 + 1);
            for round in 0..CHANGES {
                let changed = random.change(&input);
                let outcome = catch_unwind(|| (target.run)(&changed));
                assert!(outcome.is_ok(), "{} {name}, change {round}: {changed:?}", target.name);
            }
        }
    }
}

#[test]
fn every_reader_has_inputs_and_all_of_them_are_small() {
    let directories: BTreeSet<String> = std::fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(directories, TARGETS.iter().map(|target| target.name.to_owned()).collect());
    let mut total = 0;
    for target in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{} has no input", target.name);
        for (name, input) in inputs {
            assert!(input.len() <= target.longest, "{} {name} has {} bytes", target.name, input.len());
            total += input.len();
        }
    }
    assert!(total < 512 * 1024, "{total} bytes: leave out what shows nothing new");
}

#[test]
fn a_broken_reader_is_found_and_its_input_named() {
    let panics = Target { name: "frame", run: |_| panic!("broken"), longest: 64 };
    let found = broken(&panics);
    assert_eq!(found.len(), inputs(&panics).len());
    assert!(found[0].starts_with("frame: "), "{found:?}");
}

/// The inputs that break this reader.
fn broken(target: &Target) -> Vec<String> {
    let breaks = |input: &[u8]| catch_unwind(|| (target.run)(input)).is_err();
    let inputs = inputs(target).into_iter();
    inputs.filter(|(_, input)| breaks(input)).map(|(name, _)| format!("{}: {name}", target.name)).collect()
}

fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus().join(target.name)).unwrap().map(Result::unwrap);
    let mut inputs: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

fn corpus() -> PathBuf {
    workspace().join("tests/fuzz/corpus")
}

/// The same changes on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn change(&mut self, input: &[u8]) -> Vec<u8> {
        let mut changed = input.to_vec();
        let at = self.below(input.len() + 1);
        match self.below(5) {
            0 => changed.truncate(at),
            1 => changed.insert(at, self.below(256) as u8),
            2 if at < input.len() => drop(changed.remove(at)),
            3 if at < input.len() => changed[at] ^= 1 << self.below(8),
            _ => changed.extend_from_slice(&input[at..]),
        }
        changed
    }
}

/// Changes of each input.
const CHANGES: usize = 24;
