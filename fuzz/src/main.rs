//! libFuzzer around one target, which `LANDFALL_FUZZ` names: `hack/fuzz`.
#![no_main]

use std::process::exit;
use std::sync::OnceLock;

use landfall_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

/// Finds the target by its name.
fn choose() {
    let name = std::env::var("LANDFALL_FUZZ").unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("landfall-fuzz: no target {name:?}; LANDFALL_FUZZ names one of {}", names.join(", "));
        exit(2);
    };
    let _ = TARGET.set(*target);
}

fuzz_target!(
    init: choose(),
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
