use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;

use super::*;
use crate::testing::{Answer, Store, client, failure};

const PATH: &str = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web";

fn key() -> ObjectKey {
    ObjectKey::new("shop", "web")
}

fn status(ip: &str) -> Write {
    Write::Status(json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}))
}

fn store() -> Store {
    let store = Store::default();
    store.put(PATH, json!({"metadata": {"name": "web"}, "status": {}}));
    store
}

async fn settled(publisher: &Publisher) {
    let settled = async {
        while publisher.pending() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(10), settled).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_written_once_and_again_only_when_it_was_undone() {
    let store = store();
    let answers = store.clone();
    let (_leads, leader) = watch::channel(true);
    let publisher = Publisher::start::<Ingress>(client(move |call| answers.answer(call)), "landfall", leader);
    let before = store.get(PATH).unwrap();
    for _ in 0..3 {
        publisher.set(key(), Some(&before), status("10.0.0.1"));
        settled(&publisher).await;
    }
    let writes = store.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].path, format!("{PATH}/status"));
    assert_eq!(writes[0].query, "&fieldManager=landfall");
    // Seen as written, then undone by somebody, then seen as that.
    let after = store.get(PATH).unwrap();
    publisher.set(key(), Some(&after), status("10.0.0.1"));
    publisher.set(key(), Some(&before), status("10.0.0.1"));
    settled(&publisher).await;
    assert_eq!(store.writes().len(), 2);
    // Another wish, and one for the object itself beside it.
    publisher.set(key(), Some(&after), status("10.0.0.2"));
    publisher.set(key(), Some(&after), Write::Object(json!({"metadata": {"annotations": {"a": "b"}}})));
    settled(&publisher).await;
    assert_eq!(store.writes().len(), 4);
    let now = store.get(PATH).unwrap();
    assert_eq!(now["status"]["loadBalancer"]["ingress"][0]["ip"], "10.0.0.2");
    assert_eq!(now["metadata"]["annotations"]["a"], "b");
    publisher.set(key(), None, Write::Delete);
    publisher.set(key(), Some(&now), Write::Delete);
    settled(&publisher).await;
    assert_eq!(store.get(PATH), None);
}

#[tokio::test(start_paused = true)]
async fn only_a_leader_writes_and_the_latest_wish_counts() {
    let store = store();
    let answers = store.clone();
    let (leads, leader) = watch::channel(false);
    let publisher = Publisher::start::<Ingress>(client(move |call| answers.answer(call)), "landfall", leader);
    let before = store.get(PATH).unwrap();
    publisher.set(key(), Some(&before), status("10.0.0.1"));
    tokio::time::sleep(Duration::from_mins(1)).await;
    publisher.set(key(), Some(&before), status("10.0.0.2"));
    publisher.set(ObjectKey::new("shop", "gone"), Some(&before), status("10.0.0.2"));
    publisher.set(ObjectKey::new("shop", "forgotten"), Some(&before), status("10.0.0.2"));
    publisher.forget(&ObjectKey::new("shop", "forgotten"));
    assert_eq!(store.writes().len(), 0);
    leads.send_replace(true);
    settled(&publisher).await;
    assert_eq!(store.writes().len(), 2, "one to the object, one to what isn't there any more");
    assert_eq!(store.get(PATH).unwrap()["status"]["loadBalancer"]["ingress"][0]["ip"], "10.0.0.2");
    // No election at all: the last word stays true.
    drop(leads);
    publisher.set(key(), Some(&before), status("10.0.0.3"));
    settled(&publisher).await;
    assert_eq!(store.writes().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_tried_again_with_pauses() {
    let store = store();
    let (answers, tries) = (store.clone(), Arc::new(AtomicUsize::new(0)));
    let count = tries.clone();
    let client = client(move |call| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::Refuse,
        1 => failure(409, "conflict"),
        2 => Answer::Hang,
        3..10 => failure(500, "busy"),
        _ => answers.answer(call),
    });
    let (_leads, leader) = watch::channel(true);
    let publisher = Publisher::start::<Ingress>(client, "landfall", leader);
    let start = Instant::now();
    publisher.set(key(), Some(&json!({})), status("10.0.0.1"));
    settled(&publisher).await;
    assert_eq!(tries.load(Ordering::Relaxed), 11);
    let took = start.elapsed();
    assert!(took > Duration::from_secs(20) && took < Duration::from_mins(2), "{took:?}");
}
