use std::fs;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt;
use landfall_model::Change;
use landfall_model::ObjectRef;

use super::*;
use crate::source::Scope;

mod watching;

/// What the tests' plan makes of changes.
#[derive(Debug)]
enum Input {
    Ingress(Change<Ingress>),
    Class(Change<IngressClass>),
    Service(Change<Service>),
    Secret(Change<Secret>),
}

fn plan() -> Plan<Input> {
    Plan::new()
        .watch::<Ingress>(Scope::all(), Input::Ingress)
        .watch::<IngressClass>(Scope::all(), Input::Class)
        .watch::<Service>(Scope::all(), Input::Service)
        .watch::<Secret>(Scope::all(), Input::Secret)
}

/// A change in short: `= Ingress a/b c/d`, `+ Ingress a/b`, `- Ingress a/b`.
fn brief<K: ResourceExt>(kind: &str, change: &Change<K>) -> String {
    let key = |object: &Arc<K>| match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    };
    match change {
        Change::Replace(objects) => {
            let mut keys: Vec<_> = objects.iter().map(key).collect();
            keys.insert(0, format!("= {kind}"));
            keys.join(" ")
        }
        Change::Apply(object) => format!("+ {kind} {}", key(object)),
        Change::Delete(key) => format!("- {kind} {key}"),
    }
}

fn briefs(changes: &[Input]) -> Vec<String> {
    let of = |change: &Input| match change {
        Input::Ingress(change) => brief("Ingress", change),
        Input::Class(change) => brief("IngressClass", change),
        Input::Service(change) => brief("Service", change),
        Input::Secret(change) => brief("Secret", change),
    };
    changes
        .iter()
        .map(of)
        .filter(|text| !text.starts_with('=') || text.contains(' ') && text.split(' ').count() > 2)
        .collect()
}

fn ingress(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n  rules:\n  - host: {host}\n"
    )
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(dir.path(), name, text);
    }
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn problems(problems: &[Problem]) -> Vec<String> {
    let place = |problem: &Problem| problem.location.as_ref().map(ToString::to_string).unwrap_or_default();
    problems.iter().map(|problem| format!("{} {} {}", place(problem), problem.reason, problem.message())).collect()
}

/// One look at `files`: the objects and the beginnings of the problems.
fn check(files: &[(&str, &str)], expected: &[&str], expected_problems: &[&str]) {
    let dir = folder(files);
    let reading = read(dir.path(), &plan()).unwrap();
    assert_eq!(briefs(&reading.changes), expected, "{files:?}");
    let found = problems(&reading.problems);
    let matching = found.len() == expected_problems.len()
        && found.iter().zip(expected_problems).all(|(found, expected)| found.starts_with(expected));
    assert!(matching, "{files:?}\nfound    {found:#?}\nexpected {expected_problems:#?}");
}

#[test]
fn files_are_read_in_order_and_others_are_skipped() {
    check(
        &[
            ("b.yml", &ingress("b", "b.test")),
            ("D.YAML", &ingress("d", "d.test")),
            ("E.Json", "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"e\"}}"),
            ("a.yaml", &ingress("a", "a.test")),
            ("sub/c.yaml", &ingress("c", "c.test")),
            (".hidden.yaml", &ingress("h", "h.test")),
            (".sub/e.yaml", &ingress("i", "i.test")),
            ("f.yaml~", &ingress("f", "f.test")),
            ("g.yaml.swp", &ingress("g", "g.test")),
            ("deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"),
            ("knative.yaml", "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n"),
            ("README.md", "kind: {"),
            ("empty.yaml", "# nothing\n---\n"),
        ],
        &["= Ingress default/a default/b default/c default/d", "= Service default/e"],
        &[],
    );
}

/// What `kustomize build` prints for a Secret that it generates: 70 columns in a block.
#[test]
fn base64_may_be_wrapped() {
    let text =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  key: |\n    aGVs\n    bG8=\n  other: aGVsbG8=\n";
    let dir = folder(&[("a.yaml", text)]);
    let reading = read(dir.path(), &plan()).unwrap();
    assert_eq!(problems(&reading.problems), [""; 0]);
    let secrets = reading.changes.iter().find_map(|change| match change {
        Input::Secret(Change::Replace(secrets)) => Some(secrets.clone()),
        _ => None,
    });
    let data = secrets.unwrap()[0].data.clone().unwrap();
    assert_eq!((&*data["key"].0, &*data["other"].0), (&b"hello"[..], &b"hello"[..]));
}

#[test]
fn a_folder_is_read_once_whatever_links_to_it() {
    use std::os::unix::fs::symlink;
    let dir = folder(&[("a.yaml", &ingress("a", "a.test")), ("z/b.yaml", &ingress("b", "b.test"))]);
    let elsewhere = folder(&[("c.yaml", &ingress("c", "c.test"))]);
    for name in ["one", "two", "z/up"] {
        symlink(dir.path(), dir.path().join(name)).unwrap();
    }
    symlink("z", dir.path().join("b")).unwrap();
    for name in ["e", "f"] {
        symlink(elsewhere.path(), dir.path().join(name)).unwrap();
    }
    let reading = read(dir.path(), &plan()).unwrap();
    assert_eq!(briefs(&reading.changes), ["= Ingress default/a default/b default/c"]);
    assert_eq!(problems(&reading.problems), [""; 0]);
    let place = |name: &str| {
        let object = ObjectRef::new("Ingress", landfall_model::ObjectKey::new("default", name));
        reading.locations.get(&object).unwrap().to_string()
    };
    assert_eq!([place("a"), place("b"), place("c")], ["a.yaml:1", "z/b.yaml:1", "e/c.yaml:1"]);
}

#[test]
fn documents_lists_and_json_are_read() {
    check(
        &[
            (
                "a.yaml",
                "---\napiVersion: v1\nkind: Service\nmetadata: {name: one, namespace: shop}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: two}\n",
            ),
            (
                "b.yaml",
                "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: nginx, namespace: x}}\n- {apiVersion: v1, kind: Pod}\n",
            ),
            (
                "c.json",
                "{\"apiVersion\": \"v1\",\n\t\"kind\": \"SecretList\", \"items\": [{\"metadata\": {\"name\": \"s\"}}]}\n",
            ),
        ],
        &["= IngressClass nginx", "= Service default/two shop/one", "= Secret default/s"],
        &[],
    );
}

#[test]
fn what_is_wrong_is_said_with_file_line_field_and_remedy() {
    let wrong_type = "# top\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    example.com/on: true\n";
    check(
        &[("a.yaml", wrong_type)],
        &[],
        &[
            "a.yaml:8 InvalidManifest ingress default/web: metadata.annotations[example.com/on] \"true\": invalid type: boolean `true`, expected a string; put the value in quotation marks",
        ],
    );
    let broken = format!(
        "{}---\nkind: Ingress\nmetadata:\n  name: web\n  namespace: shop\nspec: [\n---\n{}",
        ingress("a", "a.test"),
        ingress("c", "c.test")
    );
    check(&[("a.yaml", &broken)], &["= Ingress default/a default/c"], &["a.yaml:"]);
    check(
        &[("a.yaml", "kind: Ingress\nmetadata:\n  name: web\n  namespace: shop\nspec: [\n")],
        &[],
        &["a.yaml:5 InvalidManifest ingress shop/web: cannot be read: unclosed bracket '['"],
    );
    check(&[("a.yaml", "a: b\n  c: d\n")], &[], &["a.yaml:2 InvalidManifest file a.yaml: cannot be read: "]);
    check(
        &[("a.json", "{\"kind\": \n \"Ingress\",}")],
        &[],
        &["a.json:2 InvalidManifest file a.json: cannot be read: "],
    );
    check(
        &[("a.yaml", "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: web}\n")],
        &[],
        &[
            "a.yaml:1 UnsupportedApiVersion ingress default/web: apiVersion \"extensions/v1beta1\": this version of the kind is not served any more; write apiVersion: networking.k8s.io/v1",
        ],
    );
    check(
        &[("a.yaml", "kind: Service\nmetadata: {name: web}\n")],
        &[],
        &["a.yaml:1 InvalidManifest service default/web: apiVersion: has no apiVersion; write apiVersion: v1"],
    );
    check(&[("a.yaml", "\n\nfoo: bar\n")], &[], &["a.yaml:3 InvalidManifest file a.yaml: kind: has no kind"]);
    check(
        &[("a.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  generateName: x\n")],
        &[],
        &["a.yaml:3 InvalidManifest file a.yaml: metadata.name: is missing"],
    );
    check(
        &[("a.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: ''\n")],
        &[],
        &["a.yaml:4 InvalidManifest file a.yaml: metadata.name: is empty"],
    );
    check(
        &[("a.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: My_App\n")],
        &[],
        &["a.yaml:4 InvalidManifest service default/My_App: metadata.name \"My_App\": is not a DNS label"],
    );
    check(
        &[("a.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: 5\n")],
        &[],
        &["a.yaml:4 InvalidManifest file a.yaml: metadata.name \"5\": is not a text; put it in quotation marks"],
    );
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  key: '!hush!'\n";
    check(
        &[("a.yaml", secret)],
        &[],
        &["a.yaml:5 InvalidManifest secret default/s: data[key]: is not Base64; encode it with base64"],
    );
    let dir = folder(&[]);
    fs::write(dir.path().join("a.yaml"), b"\xff\xfe").unwrap();
    assert!(
        problems(&read(dir.path(), &plan()).unwrap().problems)[0]
            .starts_with("a.yaml InvalidManifest file a.yaml: cannot be read: not UTF-8")
    );
}

#[test]
fn a_misspelt_field_is_named_with_the_one_that_was_meant() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\nspec:\n  ingressclassname: nginx\n  rules:\n  - host: a.test\n    http:\n      paths:\n      - path: /\n        pathType: Exact\n        backend: {service: {name: a, prot: 1}}\n        pathtype: Prefix\n        frobnicate: {a: 1}\n";
    check(
        &[("a.yaml", text)],
        &["= Ingress default/web"],
        &[
            "a.yaml:5 UnknownField ingress default/web: spec.ingressclassname \"nginx\": there is no such field; write ingressClassName, or remove it",
            "a.yaml:12 UnknownField ingress default/web: spec.rules[0].http.paths[0].backend.service.prot \"1\": there is no such field; write port, or remove it",
            "a.yaml:13 UnknownField ingress default/web: spec.rules[0].http.paths[0].pathtype \"Prefix\": there is no such field; write pathType, or remove it",
            "a.yaml:14 UnknownField ingress default/web: spec.rules[0].http.paths[0].frobnicate \"{…}\": there is no such field; correct or remove it",
        ],
    );
}

#[test]
fn the_first_of_two_with_one_name_is_in_force() {
    check(
        &[("a.yaml", &ingress("web", "a.test")), ("b.yaml", &ingress("web", "b.test"))],
        &["= Ingress default/web"],
        &[
            "b.yaml:1 DuplicateObject ingress default/web: stands in a.yaml:1 and again in b.yaml:1; the first is in force; remove one of the two",
        ],
    );
}

#[test]
fn what_an_api_server_would_have_filled_in_is_there() {
    let given = "apiVersion: v1\nkind: Service\nmetadata:\n  name: b\n  creationTimestamp: 2024-05-01T10:00:00Z\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}\nspec: {ports: [{port: 80}]}\n";
    let text = format!("{}---\n{given}---\n{}", ingress("a", "a.test"), ingress("c", "c.test"));
    let dir = folder(&[("a.yaml", &text)]);
    let reading = read(dir.path(), &plan()).unwrap();
    let (mut ages, mut uids) = (Vec::new(), Vec::new());
    for change in &reading.changes {
        match change {
            Input::Ingress(Change::Replace(objects)) => {
                ages.extend(objects.iter().map(|object| object.creation_timestamp().unwrap().0.as_second()));
                uids.extend(objects.iter().map(|object| object.uid().unwrap()));
            }
            Input::Service(Change::Replace(objects)) => {
                assert_eq!(objects[0].creation_timestamp().unwrap().0.to_string(), "2024-05-01T10:00:00Z");
                assert_eq!(objects[0].annotations().len(), 0);
                assert_eq!(objects[0].spec.as_ref().unwrap().type_.as_deref(), Some("ClusterIP"));
            }
            _ => {}
        }
    }
    assert_eq!(ages, [1, 2]);
    assert_ne!(uids[0], uids[1]);
    assert_eq!(uids[0].len(), 36);
    let web = ObjectRef::new("Ingress", landfall_model::ObjectKey::new("default", "c"));
    assert_eq!(reading.locations.get(&web).unwrap().to_string(), "a.yaml:16");
}

#[test]
fn a_missing_folder_is_an_error() {
    let error = read("/nonexistent/folder", &plan()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the folder /nonexistent/folder");
}
