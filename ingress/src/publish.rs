//! Writes to the API server: status of Ingresses and Events for problems, by the holder of the Lease.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::networking::v1::Ingress;
use landfall_ingress_model::status::{Address, IngressStatus};
use landfall_model::ObjectRef;
use landfall_shared::drain::{Drain, Phase};
use landfall_shared::events::EventPublisher;
use landfall_shared::lease::Elector;
use landfall_shared::publish::{Publisher, Write};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cli::ServeArgs;
use crate::status::StatusBoard;
use crate::uids::Uids;

/// The name in Events and in `managedFields`.
const MANAGER: &str = "landfall-ingress";

/// Where a pod finds its own namespace (Kubernetes: "Accessing the Kubernetes API from a Pod").
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Starts writing what the board says.
///
/// Returns whether this replica leads, as it changes, and who writes Events.
pub(crate) fn start(
    client: kube::Client,
    args: &ServeArgs,
    board: Arc<StatusBoard>,
    uids: Arc<Uids>,
    drain: Drain,
) -> (watch::Receiver<bool>, EventPublisher) {
    let identity = identity(args);
    let elector = Elector::start(client.clone(), &own_namespace(args), &args.lease, &identity);
    let writer = Writer {
        statuses: Publisher::start::<Ingress>(client.clone(), MANAGER, elector.leader()),
        events: EventPublisher::new(client.clone(), MANAGER, &identity, elector.leader()),
        board,
        uids,
    };
    let leader = elector.leader();
    let events = EventPublisher::new(client, MANAGER, &identity, leader.clone());
    tokio::spawn(writer.run(elector, drain));
    (leader, events)
}

/// Our own namespace: as given, else the pod's, else `default`.
pub(crate) fn own_namespace(args: &ServeArgs) -> String {
    let given = args.namespace.clone().or_else(|| std::env::var("POD_NAMESPACE").ok());
    let given = given.or_else(|| std::fs::read_to_string(NAMESPACE_FILE).ok());
    given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).unwrap_or_else(|| "default".into())
}

/// How this replica is called: as given, else the pod's name, else the host's with something that tells two
/// processes on it apart.
pub(crate) fn identity(args: &ServeArgs) -> String {
    let given = args.identity.clone().or_else(|| std::env::var("POD_NAME").ok()).filter(|name| !name.is_empty());
    given.unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{:08x}", host.trim(), rand::random::<u32>())
    })
}

struct Writer {
    statuses: Publisher,
    events: EventPublisher,
    board: Arc<StatusBoard>,
    uids: Arc<Uids>,
}

impl Writer {
    async fn run(mut self, elector: Elector, drain: Drain) {
        let mut changed = self.board.changed();
        let mut leader = elector.leader();
        loop {
            self.write();
            tokio::select! {
                Ok(()) = changed.changed() => {}
                Ok(()) = leader.changed() => tracing::info!(leader = *leader.borrow(), "leadership changed"),
                () = drain.reached(Phase::LameDuck) => break,
                else => break,
            }
        }
        // Another replica takes over at once, while this one still serves.
        elector.release().await;
    }

    fn write(&mut self) {
        for status in self.board.take_statuses() {
            let IngressStatus { ingress, desired, observed } = status;
            match desired {
                Some(desired) => {
                    self.statuses.set(ingress, Some(&load_balancer(&observed)), Write::Status(load_balancer(&desired)));
                }
                None => self.statuses.forget(&ingress),
            }
        }
        let uids = &self.uids;
        self.events.report(&self.board.problems(), |object| reference(object, uids));
    }
}

/// `{"status": {"loadBalancer": {"ingress": [{"ip": …}, {"hostname": …}]}}}`
fn load_balancer(addresses: &[Address]) -> Value {
    let entries = addresses.iter().map(|address| match address {
        Address::Ip(ip) => json!({ "ip": ip }),
        Address::Hostname(name) => json!({ "hostname": name }),
    });
    json!({ "status": { "loadBalancer": { "ingress": entries.collect::<Vec<_>>() } } })
}

fn reference(object: &ObjectRef, uids: &Uids) -> Option<ObjectReference> {
    let api_version = match &*object.kind {
        "Ingress" | "IngressClass" => "networking.k8s.io/v1",
        _ => "v1",
    };
    Some(ObjectReference {
        api_version: Some(api_version.into()),
        kind: Some(object.kind.to_string()),
        namespace: Some(object.key.namespace().to_owned()).filter(|namespace| !namespace.is_empty()),
        name: Some(object.key.name().to_owned()),
        uid: Some(uids.get(object)?),
        ..ObjectReference::default()
    })
}
