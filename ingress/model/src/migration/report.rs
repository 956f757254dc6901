//! The whole report.

use std::collections::BTreeMap;

use landfall_model::Problem;
use serde::Serialize;

use super::comparison::Comparison;
use super::controller::Controller;
use super::findings::{Finding, Verdict};
use super::review::Review;
use super::{Compiled, Migration, flags, options};

/// What becomes of an annotation, an option or a flag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It has its effect.
    Served,
    /// It has none, and nobody misses one.
    Needless,
    /// It has another effect, or none that would be missed.
    Differs,
    /// It is refused, and what it stands on answers 503 or 403.
    Refused,
    /// Its value can't be used.
    Invalid,
    /// ingress-nginx doesn't know it either.
    Unknown,
}

impl Effect {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Needless => "needless",
            Self::Differs => "differs",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }
}

/// An option of the `ConfigMap` or a flag.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// Its name; of a flag without dashes.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What becomes of it.
    pub effect: Effect,
    /// What that means, or which flag does the same here.
    pub text: String,
    /// What to do instead.
    pub remedy: String,
}

/// An annotation of an Ingress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Annotation {
    /// Its name without the prefix.
    pub name: String,
    /// Its value as it was written.
    pub value: String,
    /// What becomes of it.
    pub effect: Effect,
    /// Why it is needless, where it is.
    pub text: String,
}

/// A rule's path, and whether anybody answers there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RouteReport {
    /// Host of the rule; `*` for none.
    pub host: String,
    /// The path as it was written.
    pub path: String,
    /// `Exact`, `Prefix`, or `default backend`.
    pub path_type: &'static str,
    /// Service and port.
    pub backend: String,
    /// How many addresses stand behind it.
    pub endpoints: usize,
    /// Empty where requests reach an endpoint, else what keeps them from it.
    pub fault: String,
}

/// What becomes of one Ingress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IngressReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The sum of what follows.
    pub verdict: Verdict,
    /// Its paths.
    pub routes: Vec<RouteReport>,
    /// Its annotations of ingress-nginx.
    pub annotations: Vec<Annotation>,
    /// What differs, how, and what to do about it.
    pub differs: Vec<Finding>,
    /// What is refused, and what to write instead.
    pub refused: Vec<Finding>,
    /// Answers that rest on a way of ingress-nginx that its owner may not know. They stay as they are.
    pub quirks: Vec<Finding>,
    /// What does not work in ingress-nginx either, without a word to anybody.
    pub broken: Vec<Finding>,
}

/// An Ingress that is not ingress-nginx's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Foreign {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose it is, or why nobody's.
    pub reason: String,
}

/// What was found of ingress-nginx itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ControllerReport {
    /// The workload: `Deployment ingress-nginx/ingress-nginx-controller`.
    pub workload: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Further ones, each with Ingresses of its own.
    pub others: Vec<String>,
    /// The `ConfigMap` of the options.
    pub config_map: Option<String>,
    /// Whether it was found.
    pub config_map_found: bool,
    /// Its flags.
    pub flags: Vec<Setting>,
    /// The options.
    pub options: Vec<Setting>,
    /// The flags that Landfall is to be started with for the same effect.
    pub start_with: Vec<String>,
}

/// How many there are of each effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// Those that have their effect.
    pub served: usize,
    /// Those that need none.
    pub needless: usize,
    /// Those whose effect is another one, or missing.
    pub differs: usize,
    /// Those that are refused.
    pub refused: usize,
    /// Those whose value can't be used.
    pub invalid: usize,
    /// Those that ingress-nginx doesn't know.
    pub unknown: usize,
}

impl Tally {
    fn of(effects: impl Iterator<Item = Effect>) -> Self {
        let mut tally = Self::default();
        for effect in effects {
            *match effect {
                Effect::Served => &mut tally.served,
                Effect::Needless => &mut tally.needless,
                Effect::Differs => &mut tally.differs,
                Effect::Refused => &mut tally.refused,
                Effect::Invalid => &mut tally.invalid,
                Effect::Unknown => &mut tally.unknown,
            } += 1;
        }
        tally
    }
}

/// Counts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Summary {
    /// Ingresses of ingress-nginx.
    pub ingresses: usize,
    /// Those that are answered alike.
    pub alike: usize,
    /// Those of which something differs.
    pub differs: usize,
    /// Those of which something is refused.
    pub refused: usize,
    /// Those whose answers rest on a quirk.
    pub with_quirks: usize,
    /// Those of which something is broken in ingress-nginx.
    pub with_broken: usize,
    /// Ingresses of others.
    pub foreign: usize,
    /// Paths of rules.
    pub routes: usize,
    /// Those whose requests reach an endpoint.
    pub live_routes: usize,
    /// Annotations of all Ingresses.
    pub annotations: Tally,
    /// Keys of the `ConfigMap`.
    pub options: Tally,
    /// Flags.
    pub flags: Tally,
    /// How often each finding that differs or is refused occurs: by annotation or field.
    pub reasons: BTreeMap<String, usize>,
}

/// What becomes of everything.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// Counts.
    pub summary: Summary,
    /// ingress-nginx itself.
    pub controller: ControllerReport,
    /// Its Ingresses by namespace and name.
    pub ingresses: Vec<IngressReport>,
    /// Ingresses of others.
    pub foreign: Vec<Foreign>,
    /// What is wrong with other objects, such as classes.
    pub problems: Vec<Problem>,
    /// What two controllers answered, where that was asked for.
    pub comparison: Option<Comparison>,
}

impl Report {
    /// Whether anything is refused or differs: of an Ingress, an option, a flag, or an answer that was compared.
    pub fn differs(&self) -> bool {
        let Summary { differs, refused, options, flags, .. } = &self.summary;
        let compared = self.comparison.as_ref().map_or(0, |comparison| comparison.differences.len());
        differs + refused + options.differs + options.refused + flags.differs + flags.refused + compared > 0
    }
}

pub(super) fn make(migration: &Migration, compiled: &Compiled) -> Report {
    let review = Review::new(migration, compiled);
    let (mut ingresses, mut foreign) = (Vec::new(), Vec::new());
    for (key, ingress) in &migration.ingresses {
        match review.of(key, ingress) {
            Ok(report) => ingresses.push(report),
            Err(reason) => {
                foreign.push(Foreign { namespace: key.namespace().into(), name: key.name().into(), reason });
            }
        }
    }
    let problems = compiled.built.problems.iter().filter(|problem| &*problem.object.kind == "IngressClass");
    let controller = controller(migration, &compiled.controller, compiled);
    let summary = summary(&ingresses, &controller, foreign.len());
    Report { summary, controller, ingresses, foreign, problems: problems.cloned().collect(), comparison: None }
}

fn controller(migration: &Migration, found: &Controller, compiled: &Compiled) -> ControllerReport {
    let key = compiled.compiler.settings.config_map.as_ref();
    let data = key.and_then(|key| migration.config_maps.get(key));
    let workload = found.workload.as_ref();
    let mut start_with = flags::translate(&found.flags);
    if let (Some(key), true) = (key, found.flag("configmap").is_none()) {
        start_with.insert(0, format!("--config-map {key}"));
    }
    ControllerReport {
        workload: workload.map(|workload| format!("{} {}", workload.kind, workload.key)),
        image: workload.map(|workload| workload.image.clone()),
        others: found.others.iter().map(ToString::to_string).collect(),
        config_map: key.map(ToString::to_string),
        config_map_found: data.is_some(),
        flags: found.flags.iter().map(flags::judge).collect(),
        options: data.map(|data| options::judge(data, &migration.config_maps)).unwrap_or_default(),
        start_with,
    }
}

fn summary(ingresses: &[IngressReport], controller: &ControllerReport, foreign: usize) -> Summary {
    let with = |verdict| ingresses.iter().filter(|ingress| ingress.verdict == verdict).count();
    let routes = || ingresses.iter().flat_map(|ingress| &ingress.routes);
    let mut reasons = BTreeMap::new();
    for finding in ingresses.iter().flat_map(|ingress| ingress.differs.iter().chain(&ingress.refused)) {
        *reasons.entry(format!("{} ({})", finding.code, finding.subject)).or_default() += 1;
    }
    Summary {
        ingresses: ingresses.len(),
        alike: with(Verdict::Alike),
        differs: with(Verdict::Differs),
        refused: with(Verdict::Refused),
        with_quirks: ingresses.iter().filter(|ingress| !ingress.quirks.is_empty()).count(),
        with_broken: ingresses.iter().filter(|ingress| !ingress.broken.is_empty()).count(),
        foreign,
        routes: routes().count(),
        live_routes: routes().filter(|route| route.fault.is_empty()).count(),
        annotations: Tally::of(ingresses.iter().flat_map(|ingress| &ingress.annotations).map(|one| one.effect)),
        options: Tally::of(controller.options.iter().map(|setting| setting.effect)),
        flags: Tally::of(controller.flags.iter().map(|setting| setting.effect)),
        reasons,
    }
}
