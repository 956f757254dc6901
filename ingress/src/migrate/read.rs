//! Reading what a report is made from. Nothing is ever written.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::migration::{Fact, Migration};
use landfall_model::{Change, ObjectKey, Problem};
use landfall_shared::source::manifests::{self, Reading};
use landfall_shared::source::{Object, Plan, Scope, kubernetes};

use crate::control::unix_now;
use crate::inputs::BY_HAND;

/// Objects per page of a list, as client-go has it.
const PAGE: u32 = 500;

/// `ConfigMap`s may name others; no more than so many steps are followed.
const STEPS: usize = 3;

/// Reads a folder; returns what can't be read of it.
pub(super) fn folder(folder: &Path, migration: &mut Migration) -> anyhow::Result<Vec<Problem>> {
    let plan = Plan::new()
        .watch::<IngressClass>(Scope::all(), |change| Fact::Input(Input::IngressClass(change)))
        .watch::<Ingress>(Scope::all(), |change| Fact::Input(Input::Ingress(change)))
        .watch::<Service>(Scope::all(), |change| Fact::Input(Input::Service(change)))
        .watch::<EndpointSlice>(Scope::all(), |change| Fact::Input(Input::EndpointSlice(change)))
        .watch::<Endpoints>(Scope::all(), |change| Fact::Input(Input::Endpoints(change)))
        .watch::<Secret>(Scope::all(), |change| Fact::Input(Input::Secret(change)))
        .watch::<ConfigMap>(Scope::all(), |change| Fact::Input(Input::ConfigMap(change)))
        .watch::<Deployment>(Scope::all(), Fact::Deployment)
        .watch::<DaemonSet>(Scope::all(), Fact::DaemonSet);
    let reading: Reading<Fact> =
        manifests::read(folder, &plan).with_context(|| format!("cannot read {}", folder.display()))?;
    migration.apply(reading.changes);
    // Whether some Deployment has an unknown field is nobody's question here.
    let asked = |problem: &Problem| !matches!(&*problem.object.kind, "Deployment" | "DaemonSet");
    Ok(reading.problems.into_iter().filter(asked).collect())
}

/// Reads the cluster of `KUBECONFIG`, or that of this pod. What is forbidden of Secrets and workloads is done without.
pub(super) async fn cluster(migration: &mut Migration) -> anyhow::Result<Vec<Problem>> {
    let client = kubernetes::client().await.context(
        "no folder of manifests is given and no API server is configured; use --manifests DIR or set KUBECONFIG",
    )?;
    let input = |input| [Fact::Input(input)];
    migration.apply(input(Input::IngressClass(list(&client, ListParams::default()).await?)));
    migration.apply(input(Input::Ingress(list(&client, ListParams::default()).await?)));
    migration.apply(input(Input::Service(list(&client, ListParams::default()).await?)));
    migration.apply(input(Input::EndpointSlice(list(&client, ListParams::default()).await?)));
    migration.apply(input(Input::Endpoints(list(&client, ListParams::default().labels(BY_HAND)).await?)));
    migration.apply(lenient(list(&client, ListParams::default()).await).map(Fact::Deployment));
    migration.apply(lenient(list(&client, ListParams::default()).await).map(Fact::DaemonSet));
    let certificates = list(&client, ListParams::default().fields("type=kubernetes.io/tls")).await;
    let secrets = lenient(certificates).map(Input::Secret);
    let reads_secrets = secrets.is_some();
    migration.apply(secrets.map(Fact::Input));
    by_name(&client, migration, reads_secrets).await?;
    Ok(Vec::new())
}

/// Gets the `ConfigMap` of the options, and what Ingresses and options name.
async fn by_name(client: &Client, migration: &mut Migration, reads_secrets: bool) -> anyhow::Result<()> {
    let mut known: Vec<ObjectKey> = Vec::new();
    for _ in 0..STEPS {
        let compiled = migration.compile(unix_now());
        let maps = compiled.built.missing_config_maps.iter().cloned().chain(migration.config_map());
        let maps: Vec<ObjectKey> = maps.filter(|key| !known.contains(key)).collect();
        for key in &maps {
            if let Some(map) = get::<ConfigMap>(client, key).await? {
                migration.apply([Fact::Input(Input::NamedConfigMap(Change::Apply(map)))]);
            }
        }
        let secrets = compiled.built.missing_secrets.iter().filter(|key| reads_secrets && !known.contains(key));
        let secrets: Vec<ObjectKey> = secrets.cloned().collect();
        for key in &secrets {
            if let Some(secret) = get::<Secret>(client, key).await? {
                migration.apply([Fact::Input(Input::NamedSecret(Change::Apply(secret)))]);
            }
        }
        if maps.is_empty() && secrets.is_empty() {
            break;
        }
        known.extend(maps);
        known.extend(secrets);
    }
    Ok(())
}

async fn list<K: Object>(client: &Client, mut parameters: ListParams) -> anyhow::Result<Change<K>> {
    let api: Api<K> = Api::all(client.clone());
    parameters.limit = Some(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = api.list(&parameters).await.with_context(|| format!("cannot list {}", K::plural(&())))?;
        objects.extend(page.items.into_iter().map(Arc::new));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(Change::Replace(objects)),
        }
    }
}

async fn get<K>(client: &Client, key: &ObjectKey) -> anyhow::Result<Option<Arc<K>>>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(client.clone(), key.namespace());
    let found = api.get_opt(key.name()).await.with_context(|| format!("cannot get {} {key}", K::plural(&())))?;
    Ok(found.map(Arc::new))
}

/// What is forbidden is done without, and said.
fn lenient<K>(listed: anyhow::Result<Change<K>>) -> Option<Change<K>> {
    listed.inspect_err(|error| eprintln!("landfall-ingress: {error:#}; the report goes on without them")).ok()
}
