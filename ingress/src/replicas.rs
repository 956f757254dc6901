//! The replicas that run: one at an address, or those of a cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use landfall_model::ObjectKey;
use landfall_shared::look::{self, Look, Pipe};
use tokio::net::TcpStream;

use crate::cli::PODS;

/// The admin port where a pod names none.
const ADMIN: u16 = 10_254;

/// Which replicas are asked.
#[derive(Args, Clone, Debug)]
pub struct ReplicaArgs {
    /// The admin port of one ingress; without it, all replicas of the cluster of KUBECONFIG are asked.
    #[arg(long, env = "LANDFALL_ADMIN", value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,
    /// The namespace of the replicas; by default all.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The labels of their pods.
    #[arg(long, env = "LANDFALL_POD_SELECTOR", value_name = "LABELS", default_value = PODS)]
    pub pod_selector: String,
}

/// One replica.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    /// What it is called: its pod or its address.
    pub(crate) name: String,
    /// Its node, where it is a pod.
    pub(crate) node: Option<String>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Address(SocketAddr),
    Pod(Look, ObjectKey, u16),
}

impl Replica {
    /// The body of the answer to `GET path`.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<String> {
        match &self.place {
            Place::Address(address) => look::admin(*address, path).await,
            Place::Pod(look, pod, port) => look.pod(pod, *port, path).await,
        }
    }

    /// A connection to its admin port, from the machine that it runs on.
    pub(crate) async fn connect(&self) -> anyhow::Result<Box<dyn Pipe>> {
        match &self.place {
            Place::Address(address) => {
                let stream = TcpStream::connect(address).await;
                Ok(Box::new(stream.with_context(|| format!("cannot ask {address}"))?))
            }
            Place::Pod(look, pod, port) => look.forward(pod, *port).await,
        }
    }
}

/// Finds them.
pub(crate) async fn find(args: &ReplicaArgs) -> anyhow::Result<Vec<Replica>> {
    if let Some(address) = args.admin {
        return Ok(vec![Replica { name: address.to_string(), node: None, place: Place::Address(address) }]);
    }
    let look = Look::new().await.context("use --admin ADDR:PORT to ask one ingress without a cluster")?;
    let selected = ListParams::default().labels(&args.pod_selector);
    let pods: Option<Vec<Arc<Pod>>> = match &args.namespace {
        Some(namespace) => look.list_in(namespace, selected).await?,
        None => look.list(selected).await?,
    };
    let pods = pods.context("you may not list pods; ask one ingress by --admin ADDR:PORT")?;
    if pods.is_empty() {
        bail!("there is no pod with the labels {}; use --pod-selector, or install the chart", args.pod_selector);
    }
    Ok(pods.iter().map(|pod| replica(&look, pod)).collect())
}

fn replica(look: &Look, pod: &Pod) -> Replica {
    let meta = &pod.metadata;
    let key = ObjectKey::of(meta);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let admin = ports.find(|port| port.name.as_deref() == Some("admin"));
    let port = admin.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(ADMIN);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Replica { name: key.name().to_owned(), node, place: Place::Pod(look.clone(), key, port) }
}

#[cfg(test)]
impl Replica {
    /// One that nobody asks.
    pub(crate) fn for_tests(name: &str) -> Self {
        Self { name: name.to_owned(), node: None, place: Place::Address(([127, 0, 0, 1], 1).into()) }
    }
}
