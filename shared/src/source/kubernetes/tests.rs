use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::testing::{Answer, Call, Piece, client, failure, status};

#[derive(Debug)]
enum Input {
    Ingress(Change<Ingress>),
    Service(Change<Service>),
}

fn ingress(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": version.to_string(), "managedFields": [{"manager": "x"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
        "spec": {"rules": [{"host": format!("{version}.test")}]},
    })
}

#[allow(clippy::needless_pass_by_value, reason = "reads better where it is used")]
fn list(version: u32, items: Vec<Value>) -> Answer {
    Answer::Json(
        200,
        json!({"kind": "IngressList", "apiVersion": "networking.k8s.io/v1", "metadata": {"resourceVersion": version.to_string()}, "items": items}),
    )
}

#[allow(clippy::needless_pass_by_value, reason = "reads better where it is used")]
fn event(kind: &str, object: Value) -> Piece {
    Piece::Line(json!({"type": kind, "object": object}))
}

fn bookmark(version: u32) -> Piece {
    event(
        "BOOKMARK",
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"resourceVersion": version.to_string()}}),
    )
}

fn brief(input: &Input) -> String {
    match input {
        Input::Ingress(Change::Replace(objects)) => {
            let of = |object: &Arc<Ingress>| format!("{}@{}", object.name_any(), object.resource_version().unwrap());
            format!("={}", objects.iter().map(of).collect::<Vec<_>>().join(","))
        }
        Input::Ingress(Change::Apply(object)) => {
            assert!(object.metadata.managed_fields.is_none() && object.annotations().len() == 1);
            format!("+{}@{}", object.name_any(), object.resource_version().unwrap())
        }
        Input::Ingress(Change::Delete(key)) => format!("-{key}"),
        Input::Service(Change::Replace(objects)) => format!("services={}", objects.len()),
        Input::Service(_) => "service".to_owned(),
    }
}

/// Requests in short, with their answers in order; after the last one, watches stall.
struct Script {
    source: Source<Input>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn start(plan: &Plan<Input>, answers: Vec<Answer>) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (log, mut answers) = (calls.clone(), answers.into_iter());
        let server = move |call: &Call| {
            let parameter = |name: &str| {
                call.query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                    .unwrap_or("-")
                    .to_owned()
            };
            let short = if call.is_watch() {
                format!("watch {}", parameter("resourceVersion"))
            } else {
                format!("list {}", parameter("continue"))
            };
            log.lock().unwrap().push(short);
            answers.next().unwrap_or(Answer::Pieces(vec![Piece::Stall]))
        };
        Self { source: start(&client(server), plan), calls }
    }

    fn ingresses(answers: Vec<Answer>) -> Self {
        Self::start(&Plan::new().watch::<Ingress>(Scope::all(), Input::Ingress), answers)
    }

    async fn expect(&mut self, expected: &[&str]) {
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let Ok(Some(batch)) = timeout(Duration::from_mins(10), self.source.batches.recv()).await else { break };
            found.extend(batch.changes.iter().map(brief));
        }
        assert_eq!(found, expected, "after {:?}", self.calls.lock().unwrap());
    }

    async fn expect_calls(&self, expected: &[&str]) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*self.calls.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_is_one_replace_and_a_watch_goes_on_from_there() {
    let page = json!({"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [ingress("a", 1)]});
    let events = vec![
        event("ADDED", ingress("c", 8)),
        event("MODIFIED", ingress("a", 9)),
        event("DELETED", ingress("b", 10)),
        bookmark(15),
    ];
    let mut script =
        Script::ingresses(vec![Answer::Json(200, page), list(7, vec![ingress("b", 2)]), Answer::Pieces(events)]);
    assert_eq!(script.source.view.awaited(), ["ingresses.networking.k8s.io"]);
    let first = script.source.batches.recv().await.unwrap();
    assert!(first.complete);
    assert_eq!(first.changes.iter().map(brief).collect::<Vec<_>>(), ["=a@1,b@2"]);
    assert_eq!(script.source.view.awaited(), [""; 0]);
    script.expect(&["+c@8", "+a@9", "-shop/b"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    script.expect_calls(&["list -", "list next", "watch 7", "watch 15"]).await;
    assert_eq!(script.source.view.disconnected_since(), None);
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_is_listed_anew_with_what_was_deleted_meanwhile() {
    let gone = Answer::Pieces(vec![event("ADDED", ingress("c", 8)), event("ERROR", status(410, "too old"))]);
    let mut script = Script::ingresses(vec![
        list(7, vec![ingress("a", 1), ingress("b", 2)]),
        gone,
        list(20, vec![ingress("c", 8)]),
        failure(410, "too old"),
        list(30, vec![ingress("c", 8)]),
    ]);
    script.expect(&["=a@1,b@2", "+c@8", "=c@8", "=c@8"]).await;
    script.expect_calls(&["list -", "watch 7", "list -", "watch 20", "list -", "watch 30"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_in_a_line_is_resumed_where_it_was() {
    let cut = vec![event("ADDED", ingress("b", 8)), Piece::Raw("{\"type\":\"ADDED\",\"obj"), Piece::Cut];
    let short = vec![event("ADDED", ingress("c", 9)), Piece::Raw("{\"type\":\"ADD")];
    let mut script = Script::ingresses(vec![
        list(7, vec![ingress("a", 1)]),
        Answer::Pieces(cut),
        Answer::Pieces(short),
        Answer::Pieces(vec![event("ADDED", ingress("d", 10)), Piece::Stall]),
    ]);
    script.expect(&["=a@1", "+b@8", "+c@9", "+d@10"]).await;
    script.expect_calls(&["list -", "watch 7", "watch 8", "watch 9"]).await;
    assert_eq!(script.source.view.disconnected_since(), None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_is_resumed() {
    let mut script = Script::ingresses(vec![
        list(7, vec![]),
        Answer::Pieces(vec![bookmark(8), Piece::Pause(IDLE / 2), bookmark(9), Piece::Stall]),
        Answer::Hang,
        Answer::Pieces(vec![event("ADDED", ingress("a", 10)), Piece::Stall]),
    ]);
    script.expect(&["="]).await;
    let start = Instant::now();
    script.expect(&["+a@10"]).await;
    assert!(start.elapsed() < 2 * IDLE + Duration::from_secs(30), "{:?}", start.elapsed());
    script.expect_calls(&["list -", "watch 7", "watch 9", "watch 9"]).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_emitted_while_the_api_server_is_away() {
    let mut answers =
        vec![failure(500, "starting"), Answer::Refuse, failure(503, "starting"), list(7, vec![ingress("a", 1)])];
    answers.push(Answer::Pieces(vec![]));
    answers.extend((0..20).map(|_| Answer::Refuse));
    answers.push(Answer::Pieces(vec![event("ADDED", ingress("b", 8)), Piece::Stall]));
    let mut script = Script::ingresses(answers);
    let view = script.source.view.clone();
    let start = Instant::now();
    script.expect(&["=a@1"]).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(view.disconnected_since(), None);
    let mut changed = view.changed();
    changed.changed().await.unwrap();
    assert!(view.disconnected_since().is_some());
    assert!(
        view.describe()["failing"]["ingresses.networking.k8s.io"]["error"]
            .as_str()
            .unwrap()
            .contains("connection refused")
    );
    let start = Instant::now();
    script.expect(&["+b@8"]).await;
    // Twenty refusals at no more than five seconds each.
    assert!(start.elapsed() < Duration::from_secs(100), "{:?}", start.elapsed());
    assert_eq!(view.disconnected_since(), None);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_hides_no_other_and_is_a_problem_until_it_is_mended() {
    let mut broken = ingress("bad", 2);
    broken["spec"]["rules"] = json!("none");
    let mut broken_a = ingress("a", 8);
    broken_a["spec"]["rules"] = json!(7);
    // What can't be read is asked for once more, to learn what it is.
    let hasty = vec![event("MODIFIED", broken_a.clone()), Piece::Stall];
    let events = vec![
        event("MODIFIED", broken_a),
        Piece::Line(json!({"type": "ADDED", "object": "nonsense"})),
        event("ADDED", ingress("b", 9)),
        Piece::Pause(Duration::from_secs(5)),
        event("MODIFIED", ingress("bad", 10)),
        event("DELETED", ingress("a", 11)),
        Piece::Stall,
    ];
    let answers = vec![list(7, vec![ingress("a", 1), broken]), Answer::Pieces(hasty), Answer::Pieces(events)];
    let mut script = Script::ingresses(answers);
    let view = script.source.view.clone();
    script.expect(&["=a@1", "+b@9"]).await;
    let names: Vec<_> = view.problems().iter().map(|problem| (problem.reason, problem.object.to_string())).collect();
    assert_eq!(
        names,
        [(MALFORMED_OBJECT, "ingress shop/a".to_owned()), (MALFORMED_OBJECT, "ingress shop/bad".to_owned())]
    );
    script.expect(&["+bad@10", "-shop/a"]).await;
    assert_eq!(view.problems(), []);
}

#[tokio::test(start_paused = true)]
async fn an_optional_kind_may_be_absent_and_come_later() {
    let plan = Plan::new().watch::<Ingress>(Scope::all().optional(), Input::Ingress);
    let mut script = Script::start(
        &plan,
        vec![failure(404, "not found"), failure(403, "forbidden"), list(7, vec![ingress("a", 1)])],
    );
    let first = script.source.batches.recv().await.unwrap();
    assert!(first.complete && first.changes.is_empty());
    assert_eq!(script.source.view.problems(), []);
    assert_eq!(script.source.view.disconnected_since(), None);
    script.expect(&["=a@1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_refused_is_a_problem_until_it_is_granted() {
    let mut script = Script::ingresses(vec![failure(403, "forbidden"), failure(404, "not found"), list(7, vec![])]);
    let view = script.source.view.clone();
    let mut changed = view.changed();
    changed.changed().await.unwrap();
    assert_eq!(view.problems()[0].reason, WATCH_FORBIDDEN);
    assert_eq!(
        view.problems()[0].message(),
        "resource ingresses.networking.k8s.io: the api server refuses to list it; grant this service account get, list and watch on it"
    );
    script.expect(&["="]).await;
    assert_eq!(view.problems(), []);
}

#[tokio::test(start_paused = true)]
async fn several_namespaces_come_out_as_one_set() {
    let plan = Plan::new()
        .watch::<Ingress>(Scope::all().namespaces(["shop", "blog"]).labels("a=b"), Input::Ingress)
        .watch::<Service>(Scope::all(), Input::Service);
    let mut shop_lists = 0;
    let server = move |call: &Call| match (call.path.as_str(), call.is_watch()) {
        ("/api/v1/services", false) => list(1, vec![]),
        ("/apis/networking.k8s.io/v1/namespaces/blog/ingresses", false) => {
            assert!(call.query.contains("labelSelector=a%3Db"), "{}", call.query);
            list(3, vec![ingress("blog", 3)])
        }
        ("/apis/networking.k8s.io/v1/namespaces/shop/ingresses", false) => {
            shop_lists += 1;
            match shop_lists {
                1 => failure(500, "busy"),
                2 => list(5, vec![ingress("shop", 5)]),
                _ => list(8, vec![ingress("shop", 8)]),
            }
        }
        ("/apis/networking.k8s.io/v1/namespaces/shop/ingresses", true) if shop_lists == 2 => {
            Answer::Pieces(vec![Piece::Pause(Duration::from_secs(1)), event("ERROR", status(410, "too old"))])
        }
        _ => Answer::Pieces(vec![Piece::Stall]),
    };
    let mut source = start(&client(server), &plan);
    let (mut found, mut complete) = (Vec::new(), Vec::new());
    while found.len() < 3 {
        let batch = source.batches.recv().await.unwrap();
        found.extend(batch.changes.iter().map(brief));
        complete.push(batch.complete);
    }
    assert_eq!(found, ["services=0", "=blog@3,shop@5", "=blog@3,shop@8"]);
    assert_eq!(complete.first(), Some(&false));
    assert_eq!(complete.last(), Some(&true));
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_gets_fewer_and_larger_batches() {
    let events = (8..108).map(|version| event("MODIFIED", ingress("a", version))).chain([Piece::Stall]).collect();
    let mut script = Script::ingresses(vec![list(7, vec![]), Answer::Pieces(events)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut batches, mut changes) = (0, 0);
    while changes < 101 {
        changes += script.source.batches.recv().await.unwrap().changes.len();
        batches += 1;
    }
    assert!(batches <= BATCHES + 2, "{batches}");
}
