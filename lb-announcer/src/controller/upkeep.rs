//! What a controller sees to beside the plan: the heartbeats' key, its `ConfigurationState`, and whether pools can
//! be read at all.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use landfall_lb_model::crd::{ConfigurationState, IPAddressPool};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::{self, Verdict};

/// Pause before anything here is tried again after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Makes the heartbeats' key as soon as this replica leads.
pub(super) fn keep_key(client: Client, namespace: String, name: String, mut leader: watch::Receiver<bool>) {
    tokio::spawn(async move {
        let mut said = false;
        loop {
            if leader.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            match cluster::ensure_key(client.clone(), &namespace, &name).await {
                Ok(()) => return,
                Err(error) if !std::mem::replace(&mut said, true) => {
                    tracing::error!(%error, namespace, name, "cannot make the secret with the heartbeats' key");
                }
                Err(error) => tracing::debug!(%error, "cannot make the secret with the heartbeats' key"),
            }
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// Keeps the `ConfigurationState` called `controller` up to date while this replica leads.
pub(super) fn keep_state(
    client: Client,
    namespace: String,
    manager: &'static str,
    owner: Option<Value>,
    mut leader: watch::Receiver<bool>,
) -> watch::Sender<Option<Verdict>> {
    let (sender, mut wanted) = watch::channel(None);
    tokio::spawn(async move {
        let api: Api<ConfigurationState> = Api::namespaced(client, &namespace);
        let mut written = None;
        loop {
            if wanted.changed().await.is_err() || leader.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let now: Option<Verdict> = wanted.borrow_and_update().clone();
            let Some(verdict) = now.clone().filter(|_| now != written) else { continue };
            let mut object = json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
                "metadata": {"name": "controller", "labels": {"metallb.io/component-type": "controller"}},
            });
            if let Some(owner) = &owner {
                object["metadata"]["ownerReferences"] = json!([owner]);
            }
            let status = cluster::state_status("poolReconcilerValid", &verdict);
            match cluster::apply(&api, manager, &object, Some(status)).await {
                Ok(()) => written = now,
                Err(error) => {
                    tracing::debug!(%error, "cannot write the configuration's state");
                    tokio::time::sleep(RETRY).await;
                    wanted.mark_changed();
                }
            }
        }
    });
    sender
}

/// Says when pools can be read, in every namespace that they are read from.
///
/// Until then "there is no pool" isn't known, and a controller that took it for true would take their addresses away
/// from all Services: while it starts before its rights or the definitions are there, for example. What could be read
/// once is kept by the watches.
pub(super) fn await_pools(client: Client, namespaces: [String; 2]) -> watch::Receiver<bool> {
    let (sender, readable) = watch::channel(false);
    tokio::spawn(async move {
        let mut said = String::new();
        loop {
            match unreadable(&client, &namespaces).await {
                None => {
                    if !said.is_empty() {
                        // The watches, which don't ask as often, have to have read them as well.
                        tokio::time::sleep(cluster::ABSENT * 2).await;
                    }
                    sender.send_replace(true);
                    return;
                }
                Some(why) if why != said => {
                    tracing::error!(why, "address pools can't be read, so no address is given or taken away");
                    said = why;
                }
                Some(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    readable
}

/// Why pools can't be read; `None` if they can.
async fn unreadable(client: &Client, namespaces: &[String]) -> Option<String> {
    let one = ListParams::default().limit(1);
    for namespace in namespaces {
        let api: Api<IPAddressPool> = Api::namespaced(client.clone(), namespace);
        let Err(error) = api.list(&one).await else { continue };
        let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
        if forbidden && !exists(client, namespace).await.unwrap_or(true) {
            continue;
        }
        return Some(match &error {
            kube::Error::Api(status) if status.code == 404 => {
                "the api server knows no ipaddresspools.metallb.io; apply the definitions of this release".to_owned()
            }
            kube::Error::Api(status) => format!("namespace {namespace}: {} ({})", status.message, status.code),
            error => format!("namespace {namespace}: {error}"),
        });
    }
    None
}

async fn exists(client: &Client, namespace: &str) -> kube::Result<bool> {
    let named = ListParams::default().fields(&format!("metadata.name={namespace}"));
    Ok(!Api::<Namespace>::all(client.clone()).list(&named).await?.items.is_empty())
}
