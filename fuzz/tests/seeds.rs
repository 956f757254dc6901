//! Every seed of every target, once. A file that a fuzzer has found becomes a seed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use landfall_fuzz::TARGETS;

#[test]
fn every_target_has_seeds_and_each_holds() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, target) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(all.join(name)).unwrap_or_else(|error| panic!("no seeds of {name}: {error}")) {
            let path = entry.unwrap().path();
            // The name stands above the panic of the one that fails.
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "there is no seed of {name}");
    }
    for entry in fs::read_dir(&all).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|(known, _)| **known == *name), "{} are seeds of no target", name.display());
    }
}
