//! A file of manifests, up to what the compiler makes of it.

use std::sync::LazyLock;

use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::input::Input;
use landfall_model::{Change, ObjectKey};
use landfall_shared::source::Plan;
use landfall_shared::source::manifests::{Reading, read_text};

use crate::annotations::{now, settings};
use crate::ingress::inputs;

static PLAN: LazyLock<Plan<Input>> = LazyLock::new(inputs::folder);

const NEIGHBOUR: &str = "\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: the-neighbour}\nspec: {rules: [{host: neighbour.example}]}\n";

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let reading = read_text("a.yaml", text, &PLAN);
    // A carriage return alone ends a line of YAML, too; and the end of a file that ends so is the start of another one.
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    for problem in &reading.problems {
        let line = problem.location.as_ref().expect("a place").line;
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {}", problem.message());
    }
    assert_eq!(names(&reading), names(&read_text("a.yaml", text, &PLAN)), "a second look sees the same");
    // One bad document never breaks its neighbour.
    if !text.contains("the-neighbour") {
        let both = read_text("a.yaml", &format!("{text}{NEIGHBOUR}"), &PLAN);
        let mut expected = names(&reading);
        expected.push(ObjectKey::new("default", "the-neighbour").to_string());
        expected.sort();
        assert_eq!(names(&both), expected);
    }
    let mut compiler = Compiler::new(settings());
    compiler.apply(reading.changes);
    let _ = compiler.build(now());
}

/// The Ingresses and Services of a reading.
fn names(reading: &Reading<Input>) -> Vec<String> {
    let mut names = Vec::new();
    for change in &reading.changes {
        match change {
            Input::Ingress(Change::Replace(all)) => names.extend(all.iter().map(|one| key(&one.metadata))),
            Input::Service(Change::Replace(all)) => names.extend(all.iter().map(|one| key(&one.metadata))),
            _ => {}
        }
    }
    names.sort();
    names
}

fn key(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    ObjectKey::of(metadata).to_string()
}
