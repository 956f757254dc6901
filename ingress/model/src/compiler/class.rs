//! Which Ingresses are ours, and whose rules they follow.

use k8s_openapi::api::networking::v1::IngressClass;
use landfall_model::{Change, ObjectKey, ObjectRef, Problem};

use super::store::{Store, created};
use super::suggest::{alternatives, nearest};
use crate::reason;
use crate::settings::{Origin, Settings};
use crate::table::Dialect;

/// `IngressClass.spec.controller` of ingress-nginx.
const INGRESS_NGINX: &str = "k8s.io/ingress-nginx";

/// The value of the old annotation that chose ingress-nginx.
const NGINX: &str = "nginx";

/// The old annotation.
pub(crate) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Marks the class of Ingresses that name none.
pub(crate) const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// What is read of an `IngressClass`.
#[derive(PartialEq, Debug)]
struct Class {
    controller: Box<str>,
    is_default: bool,
    has_parameters: bool,
    created: i64,
}

/// All classes.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    classes: Store<Class>,
}

/// What an Ingress says about its class.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct ClassChoice {
    /// `spec.ingressClassName`.
    pub(crate) name: Option<Box<str>>,
    /// The annotation.
    pub(crate) annotation: Option<Box<str>>,
}

/// Whether an Ingress is ours.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Verdict {
    /// The dialect if it is ours, else why it is not.
    pub(crate) ours: Result<Dialect, String>,
    pub(crate) problem: Option<Problem>,
}

impl Classes {
    /// Applies a change; true if anything that matters changed.
    pub(crate) fn apply(&mut self, change: Change<IngressClass>) -> bool {
        !self.classes.apply(change, |class| &class.metadata, parse).is_empty()
    }

    /// Decides about an Ingress.
    ///
    /// > The newer `ingressClassName` field on Ingresses is a replacement for that annotation
    ///
    /// So the field decides where both are set, as in ingress-nginx. Of the annotation the Kubernetes API says:
    ///
    /// > ingress controllers should still honor that annotation if present
    pub(crate) fn verdict(&self, ingress: &ObjectKey, choice: &ClassChoice, settings: &Settings) -> Verdict {
        let object = || ObjectRef::new("Ingress", ingress.clone());
        match (&choice.name, &choice.annotation) {
            (Some(name), Some(annotation)) => {
                let mut verdict = self.by_name(ingress, name, settings);
                // What another controller serves is not ours to comment on.
                let is_of_us = verdict.ours.is_ok() || self.by_annotation(annotation, settings).is_ok();
                if name != annotation && is_of_us && verdict.problem.is_none() {
                    verdict.problem = Some(mismatch(object(), name, annotation));
                }
                verdict
            }
            (Some(name), None) => self.by_name(ingress, name, settings),
            (None, Some(annotation)) => {
                let ours = self.by_annotation(annotation, settings);
                let unknown = || self.unknown_annotation(object(), annotation, settings);
                Verdict { problem: if ours.is_err() { unknown() } else { None }, ours }
            }
            (None, None) => self.without_class(object(), settings),
        }
    }

    /// The annotation is compared with `--ingress-class`; what it says need not be an `IngressClass`.
    fn by_annotation(&self, value: &str, settings: &Settings) -> Result<Dialect, String> {
        if settings.ingress_classes.iter().any(|class| class == value) {
            return Ok(if value == NGINX { Dialect::IngressNginx } else { Dialect::Kubernetes });
        }
        match self.classes.get(&ObjectKey::cluster(value)) {
            Some(class) if is_ours(class, settings) => Ok(dialect(class)),
            _ => Err(format!("annotation {CLASS_ANNOTATION} is {value:?}, which is not ours")),
        }
    }

    /// Other controllers need no `IngressClass` to be named in the annotation, so that only in a folder, which has
    /// no other controller, an unknown name is worth a word.
    fn unknown_annotation(&self, object: ObjectRef, value: &str, settings: &Settings) -> Option<Problem> {
        if settings.origin == Origin::Cluster || self.classes.get(&ObjectKey::cluster(value)).is_some() {
            return None;
        }
        let names: Vec<&String> = settings.ingress_classes.iter().collect();
        let cause = "there is no class of this name, so nothing serves this Ingress";
        let remedy = format!("use {}", alternatives(&names, "spec.ingressClassName"));
        let problem = Problem::new(object, reason::UNKNOWN_INGRESS_CLASS, cause);
        Some(problem.at(format!("metadata.annotations[{CLASS_ANNOTATION}]"), value).remedy(remedy).warning())
    }

    fn by_name(&self, ingress: &ObjectKey, name: &str, settings: &Settings) -> Verdict {
        let refuse = |why: String, problem| Verdict { ours: Err(why), problem };
        match self.classes.get(&ObjectKey::cluster(name)) {
            Some(class) if is_ours(class, settings) => Verdict { ours: Ok(dialect(class)), problem: None },
            Some(class) => refuse(format!("class {name:?} belongs to controller {:?}", class.controller), None),
            None if settings.ingress_classes.iter().any(|ours| ours == name) => {
                let dialect = if name == NGINX { Dialect::IngressNginx } else { Dialect::Kubernetes };
                Verdict { ours: Ok(dialect), problem: None }
            }
            None => {
                let mut names: Vec<&str> = self.classes.iter().map(|(key, _)| key.name()).collect();
                names.extend(settings.ingress_classes.iter().map(String::as_str));
                names.sort_unstable();
                names.dedup();
                let near = nearest(name, names.iter().copied());
                let known = if near.is_empty() { &names } else { &near };
                let remedy = format!("name one that exists: {}", alternatives(known, "there is none"));
                let problem = Problem::new(
                    ObjectRef::new("Ingress", ingress.clone()),
                    reason::UNKNOWN_INGRESS_CLASS,
                    "there is no IngressClass of this name, so no controller serves this Ingress",
                );
                let problem = problem.at("spec.ingressClassName", name).remedy(remedy).warning();
                refuse(format!("class {name:?} does not exist"), Some(problem))
            }
        }
    }

    /// > If the `ingressClassName` is omitted, a default Ingress class should be defined.
    fn without_class(&self, object: ObjectRef, settings: &Settings) -> Verdict {
        let ours = |dialect| Verdict { ours: Ok(dialect), problem: None };
        if let Some((name, class)) = self.default_class() {
            return if is_ours(class, settings) {
                ours(dialect(class))
            } else {
                let why = format!("it names no class, and the default class {:?} is not ours", name.name());
                Verdict { ours: Err(why), problem: None }
            };
        }
        if settings.watch_without_class {
            return ours(Dialect::Kubernetes);
        }
        // In a cluster, an Ingress without a class may well be another controller's.
        let folder = settings.origin == Origin::Folder;
        let problem = folder.then(|| {
            let cause = "no class is named and no IngressClass is the default, so nothing serves this Ingress";
            let names: Vec<&String> = settings.ingress_classes.iter().collect();
            let remedy = format!(
                "set it to {}, mark an IngressClass with {DEFAULT_ANNOTATION}: \"true\", or start with \
                 --watch-ingress-without-class",
                alternatives(&names, "the name of a class")
            );
            let problem = Problem::new(object, reason::NO_INGRESS_CLASS, cause);
            problem.at("spec.ingressClassName", "").remedy(remedy).warning()
        });
        Verdict { ours: Err("it names no class, and there is no default class".into()), problem }
    }

    /// > If more than one IngressClass is marked as default, the admission controller prevents creating new Ingress
    /// > objects that don't have an ingressClassName specified.
    ///
    /// Refusing service would help nobody, so that the oldest is taken and the others are reported.
    fn default_class(&self) -> Option<(&ObjectKey, &Class)> {
        self.classes.iter().filter(|(_, class)| class.is_default).min_by_key(|(key, class)| (class.created, *key))
    }

    /// What is wrong with the classes themselves.
    pub(crate) fn problems(&self, settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        let default = self.default_class();
        for (key, class) in self.classes.iter() {
            let object = || ObjectRef::new("IngressClass", key.clone());
            if let Some((first, _)) = default
                && class.is_default
                && first != key
            {
                let cause = format!("class {:?} is the default already and is older", first.name());
                let problem = Problem::new(object(), reason::SEVERAL_DEFAULT_CLASSES, cause);
                let field = format!("metadata.annotations[{DEFAULT_ANNOTATION}]");
                problems.push(problem.at(field, "true").remedy("let one class be the default").warning());
            }
            if class.has_parameters && is_ours(class, settings) {
                let cause = "parameters are not used";
                let problem = Problem::new(object(), reason::UNUSED_PARAMETERS, cause);
                problems.push(problem.at("spec.parameters", "").remedy("remove them").warning());
            }
        }
        problems
    }
}

/// Field and annotation name different classes.
fn mismatch(object: ObjectRef, name: &str, annotation: &str) -> Problem {
    Problem::new(object, reason::CLASS_MISMATCH, format!("spec.ingressClassName is {name:?}"))
        .at(format!("metadata.annotations[{CLASS_ANNOTATION}]"), annotation)
        .remedy("spec.ingressClassName decides; remove the annotation")
        .warning()
}

fn is_ours(class: &Class, settings: &Settings) -> bool {
    settings.controller_classes.iter().any(|controller| **controller == *class.controller)
}

fn dialect(class: &Class) -> Dialect {
    if &*class.controller == INGRESS_NGINX { Dialect::IngressNginx } else { Dialect::Kubernetes }
}

fn parse(class: &IngressClass, _: &ObjectKey) -> Class {
    let spec = class.spec.as_ref();
    let annotations = class.metadata.annotations.as_ref();
    Class {
        controller: spec.and_then(|spec| spec.controller.as_deref()).unwrap_or_default().into(),
        is_default: annotations.is_some_and(|all| all.get(DEFAULT_ANNOTATION).is_some_and(|value| value == "true")),
        has_parameters: spec.is_some_and(|spec| spec.parameters.is_some()),
        created: created(&class.metadata),
    }
}
