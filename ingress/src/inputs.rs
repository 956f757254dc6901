//! Which kinds the ingress reads, and how much of each.

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::settings::Publish;
use landfall_model::ObjectKey;
use landfall_shared::source::{Plan, Scope};

/// What is read from a folder: everything, whatever its type or namespace.
pub(crate) fn folder() -> Plan<Input> {
    Plan::new()
        .watch::<IngressClass>(Scope::all(), Input::IngressClass)
        .watch::<Ingress>(Scope::all(), Input::Ingress)
        .watch::<Service>(Scope::all(), Input::Service)
        .watch::<EndpointSlice>(Scope::all(), Input::EndpointSlice)
        .watch::<Endpoints>(Scope::all(), Input::Endpoints)
        .watch::<Secret>(Scope::all(), Input::Secret)
        .watch::<ConfigMap>(Scope::all(), Input::ConfigMap)
        .watch::<Node>(Scope::all(), Input::Node)
}

/// Endpoints that no controller made; those of Services with a selector have slices anyway.
pub(crate) const BY_HAND: &str = "endpoints.kubernetes.io/managed-by!=endpoint-controller";

/// What is read from an API server: no more than what is used, and of Secrets those of type `kubernetes.io/tls`;
/// others are asked for by name ([`crate::named`]).
pub(crate) fn cluster(
    namespaces: &[String],
    secret_namespaces: &[String],
    options: Option<&ObjectKey>,
    publish: &Publish,
    pods: PodScope,
) -> Plan<Input> {
    let scope = || Scope::all().namespaces(namespaces.iter().cloned());
    let secrets = if secret_namespaces.is_empty() { namespaces } else { secret_namespaces };
    let secrets = Scope::all().namespaces(secrets.iter().cloned());
    let plan = Plan::new()
        .watch::<IngressClass>(Scope::all(), Input::IngressClass)
        .watch::<Ingress>(scope(), Input::Ingress)
        .watch::<Service>(scope(), Input::Service)
        .watch::<EndpointSlice>(scope(), Input::EndpointSlice)
        .watch::<Endpoints>(scope().labels(BY_HAND), Input::Endpoints)
        .watch::<Secret>(secrets.fields("type=kubernetes.io/tls"), Input::Secret);
    let plan = match options {
        Some(map) => {
            let named = format!("metadata.name={}", map.name());
            plan.watch::<ConfigMap>(
                Scope::all().namespaces([map.namespace().to_owned()]).fields(named),
                Input::ConfigMap,
            )
        }
        None => plan,
    };
    match publish {
        Publish::Nodes => plan
            .watch::<Node>(Scope::all(), Input::Node)
            .watch::<Pod>(Scope::all().namespaces([pods.namespace]).labels(pods.selector), Input::Pod),
        _ => plan,
    }
}

/// Where the pods of the ingress itself are.
#[derive(Clone, Debug)]
pub(crate) struct PodScope {
    /// Their namespace.
    pub(crate) namespace: String,
    /// Their labels.
    pub(crate) selector: String,
}
