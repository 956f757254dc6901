//! ingress-nginx itself: the workload that runs it and the flags that it was started with.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use landfall_model::ObjectKey;

use super::Choice;
use crate::compiler::annotations::value::boolean;
use crate::settings::{ExternalNames, Settings};

/// A Deployment or `DaemonSet` with a container that runs ingress-nginx.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Workload {
    pub(super) kind: &'static str,
    pub(super) key: ObjectKey,
    created: i64,
    pub(super) image: String,
    flags: Vec<Flag>,
}

/// A flag of the command line of ingress-nginx.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Its name without dashes.
    pub name: String,
    /// Its value; `true` where none is given.
    pub value: String,
}

impl Workload {
    pub(super) fn of_deployment(object: &Deployment) -> Option<Self> {
        let pod = object.spec.as_ref()?.template.spec.as_ref()?;
        Self::of("Deployment", &object.metadata, pod)
    }

    pub(super) fn of_daemon_set(object: &DaemonSet) -> Option<Self> {
        let pod = object.spec.as_ref()?.template.spec.as_ref()?;
        Self::of("DaemonSet", &object.metadata, pod)
    }

    fn of(kind: &'static str, meta: &ObjectMeta, pod: &PodSpec) -> Option<Self> {
        let container = pod.containers.iter().find(|container| is_nginx(container))?;
        let key = ObjectKey::of(meta);
        let created = crate::compiler::store::created(meta);
        let image = container.image.clone().unwrap_or_default();
        let flags = flags(&words(container, key.namespace()));
        Some(Self { kind, key, created, image, flags })
    }
}

/// Whether a container runs ingress-nginx, by its program or its image.
fn is_nginx(container: &Container) -> bool {
    let mut words = container.command.iter().chain(&container.args).flatten();
    let image = container.image.as_deref().unwrap_or_default();
    let by_image = ["ingress-nginx/controller", "nginx-ingress-controller"].iter().any(|name| image.contains(name));
    by_image || words.any(|word| word.rsplit('/').next() == Some("nginx-ingress-controller"))
}

/// Command and arguments, with the variables that are known put in.
fn words(container: &Container, namespace: &str) -> Vec<String> {
    let words = container.command.iter().chain(&container.args).flatten();
    let variables = container.env.iter().flatten().filter_map(|variable| {
        let by_name = (variable.name == "POD_NAMESPACE").then_some(namespace);
        Some((format!("$({})", variable.name), variable.value.as_deref().or(by_name)?.to_owned()))
    });
    let variables: Vec<(String, String)> = variables.collect();
    let expand = |word: &String| {
        variables.iter().fold(word.clone(), |word, (variable, value)| word.replace(variable.as_str(), value))
    };
    words.map(expand).map(|word| word.replace("$(POD_NAMESPACE)", namespace)).collect()
}

/// Flags in the forms `--name=value`, `--name value` and `--name`.
fn flags(words: &[String]) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(text) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let flag = if let Some((name, value)) = text.split_once('=') {
            Flag { name: name.to_owned(), value: value.to_owned() }
        } else {
            let next = words.next_if(|next| !next.starts_with('-'));
            Flag { name: text.to_owned(), value: next.cloned().unwrap_or_else(|| "true".to_owned()) }
        };
        flags.push(flag);
    }
    flags
}

/// What is known of the controller that is left.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Controller {
    pub(super) workload: Option<Workload>,
    /// Others that were found: each serves Ingresses of its own classes, by a `ConfigMap` of its own.
    pub(super) others: Vec<ObjectKey>,
    /// Those of the workload and of the command line; of a repeated one the last.
    pub(super) flags: Vec<Flag>,
}

impl Controller {
    pub(super) fn find(workloads: &BTreeMap<ObjectKey, Workload>, choice: &Choice) -> Self {
        let named = choice.workload.as_ref();
        let mut found: Vec<&Workload> =
            workloads.values().filter(|workload| named.is_none_or(|key| workload.key == *key)).collect();
        found.sort_by_key(|workload| (workload.created, &workload.key));
        let workload = found.first().map(|workload| (*workload).clone());
        let mut all = workload.as_ref().map(|workload| workload.flags.clone()).unwrap_or_default();
        all.extend(flags(&choice.flags));
        let mut kept: Vec<Flag> = Vec::new();
        for flag in all {
            kept.retain(|other| other.name != flag.name);
            kept.push(flag);
        }
        let others = found.iter().skip(1).map(|workload| workload.key.clone()).collect();
        Self { workload, others, flags: kept }
    }

    /// The value of a flag.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|flag| flag.name == name).map(|flag| flag.value.as_str())
    }

    fn is_set(&self, name: &str) -> bool {
        self.flag(name).is_some_and(|value| boolean(value).unwrap_or(false))
    }

    /// Adds to settings what ingress-nginx was started with.
    pub(super) fn amend(&self, settings: &mut Settings) {
        let add = |list: &mut Vec<String>, value: Option<&str>| {
            let value = value.filter(|value| !value.is_empty() && !list.iter().any(|known| known == value));
            list.extend(value.map(str::to_owned));
        };
        add(&mut settings.controller_classes, self.flag("controller-class"));
        add(&mut settings.ingress_classes, self.flag("ingress-class"));
        settings.watch_without_class |= self.is_set("watch-ingress-without-class");
        settings.disable_catch_all |= self.is_set("disable-catch-all");
        settings.ssl_passthrough |= self.is_set("enable-ssl-passthrough");
        let key = |name: &str| ObjectKey::parse(self.flag(name)?);
        settings.config_map = settings.config_map.take().or_else(|| key("configmap"));
        settings.default_certificate = settings.default_certificate.take().or_else(|| key("default-ssl-certificate"));
        settings.default_backend = settings.default_backend.take().or_else(|| key("default-backend-service"));
        if self.is_set("disable-svc-external-name") {
            settings.external_names = ExternalNames::None;
        }
    }
}
