//! Every mistake in `tests/mistakes` gives the problem that its file announces, and what is right works.
//!
//! A file announces `# Problem: REASON KIND/NAME FIELD`, with `-` or nothing for no field. A new mistake needs no Rust.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use landfall_lb_announcer::inputs::{Role, plan};
use landfall_lb_model::node::ExcludeLabel;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::world::{Rules, World};
use landfall_model::ObjectKey;
use landfall_shared::source::manifests;
use serde_json::Value;

/// At least this many different mistakes are shown.
const AT_LEAST: usize = 30;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes"))
}

fn announced() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("# Problem: ")) {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (reason, object, field) = (word(), word(), word());
            all.push((reason, object, if field == "-" { String::new() } else { field }));
        }
    }
    all
}

#[test]
fn every_mistake_is_named_with_object_field_and_remedy() {
    let run = Command::new(env!("CARGO_BIN_EXE_landfall-lb-announcer"))
        .args(["check", "-o", "json", "--manifests"])
        .arg(folder())
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", String::from_utf8_lossy(&run.stderr));
    let problems: Vec<Value> = serde_json::from_slice(&run.stdout).unwrap();
    let announced = announced();
    assert!(announced.len() >= AT_LEAST, "{}", announced.len());
    for (reason, object, field) in &announced {
        let found = problems.iter().find(|p| {
            p["reason"] == **reason
                && format!("{}/{}", p["kind"].as_str().unwrap(), p["name"].as_str().unwrap()) == *object
                && p["field"] == **field
        });
        let Some(found) = found else { panic!("no {reason} of {object} {field:?} in {problems:#?}") };
        assert_ne!(found["remedy"], "", "{found}");
        assert!(found["file"].is_string() && found["line"].as_u64().is_some_and(|line| line > 0), "{found}");
    }
}

/// Mistakes that would get in the way of others have folders of their own: a file of `tests/alone` each. After the
/// field may stand a part of the message.
#[test]
fn every_mistake_that_stands_alone_is_named() {
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/alone")).unwrap() {
        let file = entry.unwrap().path();
        let alone = tempfile::tempdir().unwrap();
        std::fs::copy(&file, alone.path().join("all.yaml")).unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_landfall-lb-announcer"))
            .args(["check", "-o", "json", "--manifests"])
            .arg(alone.path())
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(1), "{}: {}", file.display(), String::from_utf8_lossy(&run.stderr));
        let problems: Vec<Value> = serde_json::from_slice(&run.stdout).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("# Problem: ")) {
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (reason, object, field, part) = (word(), word(), word().trim_matches('-'), word());
            let named = |p: &&Value| {
                p["reason"] == *reason
                    && format!("{}/{}", p["kind"].as_str().unwrap(), p["name"].as_str().unwrap()) == *object
                    && p["field"] == *field
                    && p["message"].as_str().unwrap().contains(part)
            };
            let found = problems.iter().find(named);
            assert!(found.is_some_and(|p| p["remedy"] != ""), "{}: {line}: {problems:#?}", file.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}

/// What `check` prints in place of `MetalLB`'s configuration of before 0.13 is what the program wants.
#[test]
fn old_configuration_is_translated() {
    for name in ["old-address-pool", "old-config-map"] {
        let folder = tempfile::tempdir().unwrap();
        let check = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-lb-announcer"));
            let output = command.args(["check", "--manifests"]).arg(folder.path()).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let file = format!("{}/tests/alone/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(file, folder.path().join("all.yaml")).unwrap();
        let said = check();
        let (_, objects) = said.split_once("---\n").unwrap();
        let objects: Vec<&str> = objects.lines().take_while(|line| !line.contains(".yaml:")).collect();
        let text = std::fs::read_to_string(folder.path().join("all.yaml")).unwrap();
        let rest: Vec<&str> =
            text.split("---\n").filter(|d| !d.contains("AddressPool") && !d.contains("ConfigMap")).collect();
        std::fs::write(folder.path().join("all.yaml"), format!("{}---\n{}\n", rest.join("---\n"), objects.join("\n")))
            .unwrap();
        let now = check();
        assert!(
            !now.contains("AllocationFailed") && !now.contains("OutdatedConfiguration"),
            "{name}: {now}\nfrom {said}"
        );
    }
}

#[test]
fn what_is_right_works_among_mistakes() {
    let reading = manifests::read(folder(), &plan(&[], Role::Everything)).unwrap();
    let mut world = World::new(Rules { class: None, exclude: ExcludeLabel::Heed, speakers: SpeakerRule::EveryNode });
    for change in reading.changes {
        world.apply(change);
    }
    world.settle();
    let planned = world.plan(&BTreeMap::new(), &BTreeMap::new(), 0);
    let healthy = planned.grant(&ObjectKey::new("default", "healthy")).unwrap();
    assert_eq!(healthy.ips, vec!["192.0.2.64".parse::<std::net::IpAddr>().unwrap()]);
    let (duties, _) = world.duties(planned.grants());
    assert_eq!(&*duties[&healthy.ips[0]].candidates[0].node, "n1");
}
