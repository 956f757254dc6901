//! What a speaker writes: a `ServiceL2Status` for each Service it announces, and its part of the pools' status.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use landfall_lb_model::crd::{ConfigurationState, IPAddressPool, ServiceL2Status};
use landfall_lb_model::moved::{self, MOVES, Moves};
use landfall_lb_model::plan::TakenBy;
use landfall_lb_model::silence::SILENT;
use landfall_lb_model::speakers::{INTERFACES, STATE_PREFIX, UNHEARD};
use landfall_lb_model::subnet::SUBNETS;
use landfall_lb_model::wire::heartbeat::name_hash;
use landfall_model::ObjectKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Name;
use crate::cli::ClusterArgs;
use crate::cluster::{self, Verdict};

const API_VERSION: &str = "metallb.io/v1beta1";
const MANAGER: &str = "landfall-lb-speaker";
const RETRY: Duration = Duration::from_secs(5);
/// Pause before something that was made and isn't seen is made again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Cleaning up at the end must not hold up the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

type Taken = BTreeMap<ObjectKey, BTreeMap<IpAddr, TakenBy>>;

/// What the speaker says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    /// What it made of the configuration.
    pub(super) verdict: Verdict,
    /// The node's subnets, separated by commas.
    pub(super) subnets: String,
    /// Its interfaces with their MAC addresses, by which peers know it where no heartbeats arrive.
    pub(super) interfaces: String,
    /// The peers whose heartbeats don't arrive.
    pub(super) unheard: String,
    /// What it says of addresses that nobody announces.
    pub(super) silent: String,
    /// Whether the object is seen not to be there.
    pub(super) missing: bool,
}

/// How a Service is announced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Announced {
    /// On which interfaces.
    pub(super) interfaces: BTreeSet<Name>,
    /// Its addresses that are, and how they came here.
    pub(super) moves: Moves,
}

/// What is to be told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// The Services that this node announces.
    pub(super) announced: BTreeMap<ObjectKey, Announced>,
    /// Addresses of each pool that something on the network uses, as this node found.
    pub(super) taken: Arc<Taken>,
    /// What the speaker says of itself.
    pub(super) state: State,
}

/// Writes in the background whatever was told last.
pub(super) struct Teller {
    seen: watch::Sender<Seen>,
    statuses: Api<ServiceL2Status>,
    states: Api<ConfigurationState>,
    node: Name,
    in_pod: bool,
}

struct Work {
    client: Client,
    statuses: Api<ServiceL2Status>,
    states: Api<ConfigurationState>,
    node: Name,
    /// The pod that what is written goes with.
    owner: Option<Value>,
    state: State,
    announced: BTreeMap<ObjectKey, Announced>,
    taken: Taken,
    cleaned: bool,
}

impl Teller {
    pub(super) fn start(client: Client, node: &Name, cluster: &ClusterArgs) -> Self {
        let (seen, mut wanted) = watch::channel(Seen::default());
        let statuses: Api<ServiceL2Status> = Api::namespaced(client.clone(), &cluster.namespace);
        let states: Api<ConfigurationState> = Api::namespaced(client.clone(), &cluster.namespace);
        let owner = cluster::owner(cluster);
        let in_pod = owner.is_some();
        let mut work = Work {
            client,
            statuses: statuses.clone(),
            states: states.clone(),
            node: node.clone(),
            owner,
            state: State::default(),
            announced: BTreeMap::new(),
            taken: Taken::new(),
            cleaned: false,
        };
        tokio::spawn(async move {
            let mut failing = false;
            loop {
                let missing = work.state.missing;
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { return },
                    // It may have been made and removed before anybody looked.
                    () = tokio::time::sleep(LOOK_AGAIN), if missing => work.state = State::default(),
                }
                let now = wanted.borrow_and_update().clone();
                match work.bring_about(&now).await {
                    Ok(()) => failing = false,
                    Err(error) => {
                        // Said once, not at every try while the API server is away.
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(%error, "cannot write what this node announces");
                        }
                        tokio::time::sleep(RETRY).await;
                        wanted.mark_changed();
                    }
                }
            }
        });
        Self { seen, statuses, states, node: node.clone(), in_pod }
    }

    pub(super) fn tell(&self, seen: Seen) {
        self.seen.send_if_modified(|told| {
            let changed = *told != seen;
            *told = seen;
            changed
        });
    }

    /// Nothing is announced any more: whoever has taken over tells of it.
    pub(super) async fn forget_announcements(&self) {
        let clean = async {
            let _ = delete_all(&self.statuses, &self.node).await;
            if !self.in_pod {
                // Nothing else would ever remove it, and it says that there is a speaker here.
                let _ = self.states.delete(&state_name(&self.node), &DeleteParams::default()).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, clean).await;
    }
}

fn state_name(node: &str) -> String {
    format!("{STATE_PREFIX}{node}")
}

async fn delete_all(statuses: &Api<ServiceL2Status>, node: &str) -> kube::Result<()> {
    let mine = ListParams::default().labels(&format!("metallb.io/node={node}"));
    for object in statuses.list(&mine).await? {
        delete(statuses, object.metadata.name.as_deref().unwrap_or_default()).await?;
    }
    Ok(())
}

async fn delete(statuses: &Api<ServiceL2Status>, name: &str) -> kube::Result<()> {
    match statuses.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

impl Work {
    async fn bring_about(&mut self, seen: &Seen) -> kube::Result<()> {
        // Each is told even if the other can't be.
        let state = self.tell_state(&seen.state).await;
        self.tell_announced(seen).await?;
        for (key, taken) in seen.taken.iter() {
            if self.taken.get(key).map_or(taken.is_empty(), |told| told == taken) {
                continue;
            }
            self.tell_taken(key, taken).await?;
            self.taken.insert(key.clone(), taken.clone());
        }
        state
    }

    async fn tell_state(&mut self, state: &State) -> kube::Result<()> {
        let as_before = State { missing: state.missing, ..self.state.clone() } == *state;
        if self.state == *state || as_before && !state.missing {
            self.state.missing = state.missing;
            return Ok(());
        }
        let labels = json!({"metallb.io/component-type": "speaker", "metallb.io/node-name": &*self.node});
        let annotations = json!({
            SUBNETS: state.subnets, INTERFACES: state.interfaces, UNHEARD: state.unheard, SILENT: state.silent,
        });
        let object = json!({
            "apiVersion": API_VERSION, "kind": "ConfigurationState",
            "metadata": {
                "name": state_name(&self.node), "labels": labels, "annotations": annotations,
            },
        });
        let status = cluster::state_status("configReconcilerValid", &state.verdict);
        cluster::apply(&self.states, MANAGER, &self.with_owner(object), Some(status)).await?;
        self.state = state.clone();
        Ok(())
    }

    fn with_owner(&self, mut object: Value) -> Value {
        if let Some(owner) = &self.owner {
            object["metadata"]["ownerReferences"] = json!([owner]);
        }
        object
    }

    async fn tell_announced(&mut self, seen: &Seen) -> kube::Result<()> {
        if !self.cleaned {
            // A former run of this node may have been killed and left its objects behind.
            delete_all(&self.statuses, &self.node).await?;
            self.cleaned = true;
        }
        let gone: Vec<ObjectKey> = self.announced.keys().filter(|k| !seen.announced.contains_key(k)).cloned().collect();
        for key in gone {
            delete(&self.statuses, &self.name_of(&key)).await?;
            self.announced.remove(&key);
        }
        for (key, announced) in &seen.announced {
            if self.announced.get(key) == Some(announced) {
                continue;
            }
            let (object, status) = self.status_object(key, announced);
            cluster::apply(&self.statuses, MANAGER, &self.with_owner(object), Some(status)).await?;
            self.announced.insert(key.clone(), announced.clone());
        }
        Ok(())
    }

    fn name_of(&self, service: &ObjectKey) -> String {
        format!("l2-{:016x}", name_hash(&format!("{} {service}", self.node)))
    }

    fn status_object(&self, service: &ObjectKey, announced: &Announced) -> (Value, Value) {
        let (namespace, name) = (service.namespace(), service.name());
        let labels = json!({
            "metallb.io/node": &*self.node, "metallb.io/service-name": name, "metallb.io/service-namespace": namespace,
        });
        let object = json!({
            "apiVersion": API_VERSION, "kind": "ServiceL2Status",
            "metadata": {
                "name": self.name_of(service), "labels": labels, "annotations": {MOVES: moved::write(&announced.moves)},
            },
            "spec": {},
        });
        let interfaces: Vec<Value> = announced.interfaces.iter().map(|name| json!({"name": &**name})).collect();
        let status = json!({
            "node": &*self.node, "serviceName": name, "serviceNamespace": namespace, "interfaces": interfaces,
        });
        (object, status)
    }

    async fn tell_taken(&self, pool: &ObjectKey, taken: &BTreeMap<IpAddr, TakenBy>) -> kube::Result<()> {
        let api: Api<IPAddressPool> = Api::namespaced(self.client.clone(), pool.namespace());
        let entries: Vec<Value> = taken.iter().map(|(ip, by)| json!(by.entry(*ip, &self.node))).collect();
        let object = json!({"apiVersion": API_VERSION, "kind": "IPAddressPool", "metadata": {"name": pool.name()}});
        // Each node is a manager of its own, so that it can only ever change its own entries.
        let manager = format!("{MANAGER}-{}", self.node);
        cluster::apply_status(&api, &manager, &object, json!({"taken": entries})).await
    }
}
