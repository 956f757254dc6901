use landfall_model::ObjectKey;

use super::*;
use crate::testing::{Store, client};

fn problem(name: &str, cause: &str) -> Problem {
    Problem::new(ObjectRef::new("Ingress", ObjectKey::new("shop", name)), Reason::new("InvalidHost"), cause)
}

fn lookup(object: &ObjectRef) -> Option<ObjectReference> {
    (object.key.name() != "absent").then(|| ObjectReference {
        api_version: Some("networking.k8s.io/v1".to_owned()),
        kind: Some(object.kind.to_string()),
        namespace: Some(object.key.namespace().to_owned()),
        name: Some(object.key.name().to_owned()),
        uid: Some("1".to_owned()),
        ..ObjectReference::default()
    })
}

async fn written(store: &Store) -> Vec<String> {
    tokio::time::sleep(SETTLES_WITHIN + Duration::from_millis(100)).await;
    let note = |call: crate::testing::Call| {
        format!(
            "{} {} {}",
            call.method,
            call.body["reason"].as_str().unwrap_or_default(),
            call.body["note"].as_str().unwrap_or_default()
        )
    };
    store.writes().into_iter().map(note).collect()
}

#[tokio::test(start_paused = true)]
async fn a_problem_is_written_when_it_appears_and_by_the_leader_only() {
    let store = Store::default();
    let answers = store.clone();
    let (leads, leader) = watch::channel(false);
    let mut events = EventPublisher::new(client(move |call| answers.answer(call)), "landfall-ingress", "pod-1", leader);
    let both = [problem("web", "not a DNS name"), problem("absent", "not a DNS name")];
    events.report(&both, lookup);
    assert_eq!(written(&store).await, [""; 0]);
    leads.send_replace(true);
    events.report(&both, lookup);
    events.report(&both, lookup);
    assert_eq!(written(&store).await, ["POST InvalidHost ingress shop/web: not a DNS name"]);
    assert_eq!(store.writes()[0].body["type"], "Warning");
    assert_eq!(store.writes()[0].body["regarding"]["name"], "web");
    // Gone and back again: said again.
    events.report(&[], lookup);
    events.report(&both, lookup);
    assert_eq!(written(&store).await.len(), 2);
    // Over before anybody could have acted on it: never said.
    events.report(&[problem("web", "no such service")], lookup);
    tokio::time::sleep(SETTLES_WITHIN / 2).await;
    events.report(&both[1..], lookup);
    assert_eq!(written(&store).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_object_fills_no_store() {
    let store = Store::default();
    let answers = store.clone();
    let (_leads, leader) = watch::channel(true);
    let mut events = EventPublisher::new(client(move |call| answers.answer(call)), "landfall-ingress", "pod-1", leader);
    let many: Vec<_> = (0..100).map(|number| problem("web", &format!("cause {number}"))).collect();
    events.report(&many, lookup);
    assert_eq!(written(&store).await.len(), PER_OBJECT);
    assert_eq!(written(&store).await[1], "POST InvalidHost ingress shop/web: cause 1");
    tokio::time::sleep(WINDOW).await;
    events.report(&[problem("web", &"ä".repeat(2000))], lookup);
    let last = written(&store).await.pop().unwrap();
    assert!(last.len() < 1100 && last.ends_with('…'), "{last}");
}
