//! Reading a cluster: what the compiler is fed with, and what surrounds it.

use std::sync::Arc;

use clap::Parser;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use landfall_ingress_model::checkup::Facts;
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::settings::{Origin, Publish, Settings};
use landfall_model::{Change, ObjectKey, Problem};
use landfall_shared::look::Look;

use crate::acme;
use crate::cli::{Cli, Command, ModelArgs, ServeArgs};
use crate::control::unix_now;
use crate::inputs::BY_HAND;

/// `ConfigMap`s may name others; no more than so many steps are followed.
const STEPS: usize = 3;

/// Where the chart installs the ingress by default.
const NAMESPACE: &str = "landfall-system";

/// What was read of a cluster, compiled as it is served there.
pub(crate) struct Seen {
    /// What surrounds the ingress.
    pub(crate) facts: Facts,
    /// The compiler that has taken all in.
    pub(crate) compiler: Compiler,
    /// What it made of that.
    pub(crate) built: Built,
    /// How it was told to read things.
    pub(crate) settings: Settings,
    /// What is wrong with certificates that are ordered.
    pub(crate) ordered: Vec<Problem>,
}

/// Reads everything, at once.
///
/// Where an ingress is installed, its own flags decide, since what it serves is asked for; else the `given` ones.
pub(crate) async fn read(look: &Look, namespace: Option<&str>, given: &ModelArgs) -> anyhow::Result<Seen> {
    let all = ListParams::default;
    // Boxed, since much is under way at once.
    let lists = async {
        futures::try_join!(
            look.list(all()),
            look.list(all()),
            look.list(all()),
            look.list(all()),
            look.list::<Namespace>(all()),
        )
    };
    let (classes, ingresses, services, pods, namespaces) = Box::pin(lists).await?;
    let lists = async {
        futures::try_join!(
            look.list(all()),
            look.list::<Deployment>(all()),
            look.list::<DaemonSet>(all()),
            look.list(all()),
            look.list(all().labels(BY_HAND)),
            look.list::<Secret>(all().fields("type=kubernetes.io/tls")),
        )
    };
    let (policies, deployments, daemon_sets, slices, endpoints, secrets) = Box::pin(lists).await?;
    let mut facts = Facts {
        classes: classes.unwrap_or_default(),
        ingresses: ingresses.unwrap_or_default(),
        services: services.unwrap_or_default(),
        pods,
        namespaces: namespaces.unwrap_or_default(),
        policies: policies.unwrap_or_default(),
        deployments: deployments.unwrap_or_default(),
        daemon_sets: daemon_sets.unwrap_or_default(),
        reads_secrets: secrets.is_some(),
        ..Facts::default()
    };
    let started = started(&facts);
    facts.namespace = match (namespace, &started) {
        (Some(given), _) => given.to_owned(),
        (None, Some((found, _))) => found.clone(),
        (None, None) => NAMESPACE.to_owned(),
    };
    facts.own = facts.namespaces.iter().find(|one| one.metadata.name.as_ref() == Some(&facts.namespace)).cloned();
    let flags = started.and_then(|(_, flags)| flags);
    let publish = flags.as_ref().and_then(|flags| flags.publish_service.clone());
    let model = flags.as_ref().map_or(given, |flags| &flags.model);
    let mut settings = model.settings(Origin::Cluster, publish.clone().map_or(Publish::Nothing, Publish::Service));
    if let Some(flags) = &flags {
        settings.asking = flags.acme.asking();
    }
    facts.publish_service = publish;
    let mut compiler = Compiler::new(settings.clone());
    compiler.apply([
        Input::IngressClass(Change::Replace(facts.classes.clone())),
        Input::Ingress(Change::Replace(facts.ingresses.clone())),
        Input::Service(Change::Replace(facts.services.clone())),
        Input::EndpointSlice(Change::Replace(slices.unwrap_or_default())),
        Input::Endpoints(Change::Replace(endpoints.unwrap_or_default())),
    ]);
    compiler.apply(secrets.clone().map(|secrets| Input::Secret(Change::Replace(secrets))));
    let built = by_name(look, &mut compiler, &settings, facts.reads_secrets).await?;
    let ordered = match (flags, secrets) {
        (Some(flags), Some(secrets)) => {
            acme::problems(look, &facts.namespace, &flags, built.asked.clone(), secrets).await?
        }
        _ => Vec::new(),
    };
    Ok(Seen { facts, compiler, built, settings, ordered })
}

/// Gets the `ConfigMap` of the options, and what Ingresses and options name.
async fn by_name(
    look: &Look,
    compiler: &mut Compiler,
    settings: &Settings,
    reads_secrets: bool,
) -> anyhow::Result<Built> {
    let mut known: Vec<ObjectKey> = Vec::new();
    if let Some(key) = &settings.config_map {
        compiler.apply(look.get::<ConfigMap>(key).await?.map(|map| Input::ConfigMap(Change::Apply(map))));
        known.push(key.clone());
    }
    for _ in 0..STEPS {
        let built = compiler.build(unix_now());
        let maps: Vec<_> = built.missing_config_maps.iter().filter(|key| !known.contains(key)).cloned().collect();
        let secrets = built.missing_secrets.iter().filter(|key| reads_secrets && !known.contains(key));
        let secrets: Vec<_> = secrets.cloned().collect();
        for key in &maps {
            compiler.apply(look.get::<ConfigMap>(key).await?.map(|map| Input::NamedConfigMap(Change::Apply(map))));
        }
        for key in &secrets {
            compiler.apply(look.get::<Secret>(key).await?.map(|one| Input::NamedSecret(Change::Apply(one))));
        }
        if maps.is_empty() && secrets.is_empty() {
            break;
        }
        known.extend(maps);
        known.extend(secrets);
    }
    Ok(compiler.build(unix_now()))
}

/// Namespace and flags of the ingress that is installed, if one is; without flags where they can't be read.
fn started(facts: &Facts) -> Option<(String, Option<Box<ServeArgs>>)> {
    let of = |meta: &ObjectMeta, pod: Option<&PodSpec>| {
        let namespace = meta.namespace.clone().unwrap_or_default();
        (namespace, pod.and_then(flags))
    };
    let owned = |meta: &ObjectMeta| facts.workloads().owns(meta);
    let deployment = |object: &Arc<Deployment>| {
        of(&object.metadata, object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()))
    };
    let daemon_set = |object: &Arc<DaemonSet>| {
        of(&object.metadata, object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()))
    };
    let deployments = facts.deployments.iter().filter(|object| owned(&object.metadata)).map(deployment);
    deployments.chain(facts.daemon_sets.iter().filter(|object| owned(&object.metadata)).map(daemon_set)).next()
}

fn flags(pod: &PodSpec) -> Option<Box<ServeArgs>> {
    let container = pod.containers.first()?;
    let name = std::iter::once("landfall-ingress");
    let words = name.chain(container.args.iter().flatten().map(String::as_str));
    match Cli::try_parse_from(words).ok()?.command {
        Command::Serve(args) => Some(args),
        _ => None,
    }
}
