//! Objects that are watched by their names.
//!
//! All Secrets of type `kubernetes.io/tls` are watched at once. Class nginx takes any type, and whatever else is in a
//! cluster's Secrets is not to be read for that; so each Secret that it names and that is not of that type has a watch
//! of its own. So has each `ConfigMap` that an Ingress or the options name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use landfall_ingress_model::input::Input;
use landfall_model::{Change, ObjectKey};
use landfall_shared::source::{Object, Plan, Scope, kubernetes};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Watches at one time. Each is a request at the API server; a cluster with more such objects is told in the log.
const MOST: usize = 256;

/// How long the first table may wait for these objects: one that can't be read must not keep all others from traffic.
const PATIENCE: Duration = Duration::from_secs(5);

/// The watches for objects of one kind, and what they say.
pub(crate) struct Named<K> {
    /// Makes an input of a change.
    into: fn(Change<K>) -> Input,
    /// Without one, as with a folder, nothing is asked for.
    client: Option<kube::Client>,
    watches: BTreeMap<ObjectKey, AbortHandle>,
    /// Those that have not been answered for yet.
    pending: BTreeSet<ObjectKey>,
    begun: Option<Instant>,
    sender: mpsc::Sender<Change<K>>,
    changes: mpsc::Receiver<Change<K>>,
}

impl<K> std::fmt::Debug for Named<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Named").field("watches", &self.watches.keys()).finish_non_exhaustive()
    }
}

impl<K: Object<Scope: 'static>> Named<K> {
    pub(crate) fn new(client: Option<kube::Client>, into: fn(Change<K>) -> Input) -> Self {
        let (sender, changes) = mpsc::channel(64);
        Self { into, client, watches: BTreeMap::new(), pending: BTreeSet::new(), begun: None, sender, changes }
    }

    /// Watches these and no others; returns what is to be forgotten.
    pub(crate) fn watch(&mut self, wanted: &BTreeSet<ObjectKey>) -> Vec<Input> {
        let Some(client) = &self.client else { return Vec::new() };
        let gone: Vec<ObjectKey> = self.watches.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in &gone {
            self.pending.remove(key);
            if let Some(watch) = self.watches.remove(key) {
                watch.abort();
            }
        }
        for key in wanted {
            if self.watches.contains_key(key) {
                continue;
            }
            if self.watches.len() >= MOST {
                tracing::warn!(kind = &*K::kind(&K::DynamicType::default()), %key, most = MOST, "too many objects are named");
                break;
            }
            let watch = tokio::spawn(follow(client.clone(), key.clone(), self.sender.clone()));
            self.watches.insert(key.clone(), watch.abort_handle());
            self.pending.insert(key.clone());
            self.begun.get_or_insert_with(Instant::now);
        }
        gone.into_iter().map(|key| (self.into)(Change::Delete(key))).collect()
    }

    /// The next change.
    pub(crate) async fn changed(&mut self) -> Input {
        loop {
            // The channel does not close, since one sender is here.
            let Some(change) = self.changes.recv().await else { std::future::pending().await };
            let key = key_of(&change);
            self.pending.remove(&key);
            // What was on its way when its watch ended is forgotten already.
            if self.watches.contains_key(&key) {
                return (self.into)(change);
            }
        }
    }

    /// Whether the first table may be served: each object was answered for, or has had its time.
    pub(crate) fn settled(&self) -> bool {
        self.pending.is_empty() || self.begun.is_some_and(|begun| begun.elapsed() >= PATIENCE)
    }
}

fn key_of<K: Object>(change: &Change<K>) -> ObjectKey {
    match change {
        Change::Delete(key) => key.clone(),
        Change::Apply(object) => {
            let meta = object.meta();
            ObjectKey::of(meta)
        }
        Change::Replace(_) => ObjectKey::cluster(""),
    }
}

/// Follows one object until it is aborted.
async fn follow<K: Object<Scope: 'static>>(client: kube::Client, key: ObjectKey, changes: mpsc::Sender<Change<K>>) {
    let scope = Scope::all().namespaces([key.namespace()]).fields(format!("metadata.name={}", key.name()));
    let mut source = kubernetes::start(&client, &Plan::new().watch::<K>(scope, |change| change));
    while let Some(batch) = source.batches.recv().await {
        for change in batch.changes {
            // The list of one object is complete for that one only.
            let change = match change {
                Change::Replace(found) => {
                    found.into_iter().next().map_or_else(|| Change::Delete(key.clone()), Change::Apply)
                }
                other => other,
            };
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that has one Secret, answers lists by name only, and never ends a watch.
    fn client() -> kube::Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
            if query.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            let named = query.contains("fieldSelector=metadata.name%3Ds&") || query.ends_with("metadata.name%3Ds");
            let secret = json!({
                "metadata": {"name": "s", "namespace": "shop", "resourceVersion": "1"}, "type": "Opaque",
            });
            let found = if path == "/api/v1/namespaces/shop/secrets" && named { vec![secret] } else { Vec::new() };
            let list =
                json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": found});
            Ok::<_, Infallible>(Response::new(Body::from(list.to_string().into_bytes())))
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test]
    async fn each_secret_is_watched_by_its_name_as_long_as_it_is_wanted() {
        let mut secrets = Named::new(Some(client()), Input::NamedSecret);
        let wanted = BTreeSet::from([ObjectKey::new("shop", "s"), ObjectKey::new("shop", "missing")]);
        assert!(secrets.settled());
        assert!(secrets.watch(&wanted).is_empty());
        assert!(!secrets.settled(), "the first table waits for them");
        let mut found = BTreeMap::new();
        for _ in 0..2 {
            let Input::NamedSecret(change) = secrets.changed().await else { panic!("a Secret") };
            found.insert(key_of(&change).to_string(), matches!(change, Change::Apply(_)));
        }
        assert_eq!(found, BTreeMap::from([("shop/missing".to_owned(), false), ("shop/s".to_owned(), true)]));
        assert!(secrets.settled());
        let gone = secrets.watch(&BTreeSet::from([ObjectKey::new("shop", "missing")]));
        assert!(matches!(&gone[..], [Input::NamedSecret(Change::Delete(key))] if key.name() == "s"), "{gone:?}");
        assert_eq!(secrets.watches.len(), 1);
    }

    #[tokio::test]
    async fn a_folder_asks_for_nothing() {
        let mut secrets = Named::new(None, Input::NamedSecret);
        assert!(secrets.watch(&BTreeSet::from([ObjectKey::new("shop", "s")])).is_empty());
        assert!(secrets.settled() && secrets.watches.is_empty());
    }
}
