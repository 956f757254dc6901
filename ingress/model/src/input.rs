//! What the compiler is fed with.

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use landfall_model::Change;

/// One change to the objects that the model reads.
#[derive(Clone, Debug)]
pub enum Input {
    /// An Ingress.
    Ingress(Change<Ingress>),
    /// An IngressClass.
    IngressClass(Change<IngressClass>),
    /// A Service.
    Service(Change<Service>),
    /// An EndpointSlice.
    EndpointSlice(Change<EndpointSlice>),
    /// Endpoints made by hand.
    Endpoints(Change<Endpoints>),
    /// A Secret of type `kubernetes.io/tls`; from a folder, of any type.
    Secret(Change<Secret>),
    /// One of [`Built::missing_secrets`](crate::compiler::Built), of any type.
    NamedSecret(Change<Secret>),
    /// The `ConfigMap` of the options; from a folder, any.
    ConfigMap(Change<ConfigMap>),
    /// One of [`Built::missing_config_maps`](crate::compiler::Built).
    NamedConfigMap(Change<ConfigMap>),
    /// A Node; only its addresses matter.
    Node(Change<Node>),
    /// A Pod of the ingress itself; only its node matters.
    Pod(Change<Pod>),
}
