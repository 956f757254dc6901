//! What the command line decides about the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use landfall_model::ObjectKey;
use rustls::crypto::CryptoProvider;

use crate::acme::ask::Asking;

/// Where the objects come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// An API server: a Service must not reach into the proxy's own host.
    Cluster,
    /// A folder of manifests: whoever writes the folder owns the host, so loopback addresses are allowed.
    Folder,
}

/// Which names a Service of type ExternalName may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ExternalNames {
    /// Such Services are not used.
    None,
    /// Names outside of the cluster, and those of its own namespace.
    #[default]
    Outside,
    /// Every name.
    All,
}

/// Whether a host belongs to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostOwnership {
    /// Ingresses of all namespaces may share a host.
    #[default]
    None,
    /// A host belongs to the namespace of the oldest Ingress that names it.
    Namespace,
}

/// Where the addresses in `status.loadBalancer` of the Ingresses come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Publish {
    /// `--publish-status-address`: addresses or host names as given.
    Addresses(Vec<String>),
    /// `--publish-service`: the addresses in that Service's own status, its `externalIPs`, or its cluster address.
    Service(ObjectKey),
    /// The addresses of the nodes that run a pod of the ingress (host network).
    Nodes,
    /// Nothing is published.
    Nothing,
}

/// Settings of the model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Values of `IngressClass.spec.controller` that are ours.
    pub controller_classes: Vec<String>,
    /// Values of the annotation `kubernetes.io/ingress.class` that are ours, and class names that are ours while
    /// no `IngressClass` of that name exists.
    pub ingress_classes: Vec<String>,
    /// Whether an Ingress without any class is ours.
    pub watch_without_class: bool,
    /// The certificate for names that have none.
    pub default_certificate: Option<ObjectKey>,
    /// The Service for requests that no rule takes.
    pub default_backend: Option<ObjectKey>,
    /// Whether Ingresses of the ingress-nginx dialect with a default backend are left out.
    pub disable_catch_all: bool,
    /// Whether Ingresses may have TLS end at their endpoints.
    pub ssl_passthrough: bool,
    /// The `ConfigMap` with the options of ingress-nginx.
    pub config_map: Option<ObjectKey>,
    /// The `ConfigMap` that names TCP ports and the Services that they lead to.
    pub tcp_services: Option<ObjectKey>,
    /// The same for UDP.
    pub udp_services: Option<ObjectKey>,
    /// TCP ports that the ingress needs for itself.
    pub reserved_ports: BTreeSet<u16>,
    /// Where the objects come from.
    pub origin: Origin,
    /// The namespaces whose Secrets are read; empty: all.
    pub secret_namespaces: Vec<String>,
    /// Whether a host belongs to a namespace.
    pub host_ownership: HostOwnership,
    /// Which names a Service of type ExternalName may have.
    pub external_names: ExternalNames,
    /// The domain that the cluster's own names are under, such as `cluster.local`.
    pub cluster_domain: String,
    /// For which Ingresses certificates are ordered.
    pub asking: Asking,
    /// Status addresses.
    pub publish: Publish,
    /// Checks and loads private keys; chosen by the binary.
    pub crypto: Arc<CryptoProvider>,
}
