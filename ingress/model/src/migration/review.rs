//! What becomes of one Ingress.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use landfall_model::{ObjectKey, Problem};

use super::findings::Verdict;
use super::report::{IngressReport, RouteReport};
use super::{Compiled, Migration, annotations, problems, quirks, silent};
use crate::backend::Target;
use crate::compiler::Compiler;
use crate::compiler::ingress::PathSpec;
use crate::compiler::link::{Linked, LinkedCanary};
use crate::host::HostPattern;
use crate::reason;
use crate::table::{Action, Dialect, HostRoutes, PathRule, Route, Table};

/// Looks at the Ingresses of one compilation.
pub(super) struct Review<'a> {
    pub(super) compiler: &'a Compiler,
    problems: BTreeMap<&'a ObjectKey, &'a [Problem]>,
    options: Option<&'a BTreeMap<String, String>>,
    migration: &'a Migration,
}

/// The routes of a host in a table.
pub(super) fn host_routes<'a>(table: &'a Table, host: &HostPattern) -> Option<&'a HostRoutes> {
    match host {
        HostPattern::Exact(name) => table.exact.get(name).map(|routes| &**routes),
        HostPattern::Wildcard(domain) => table.wildcard.get(domain).map(|routes| &**routes),
        HostPattern::Any => Some(&table.any),
    }
}

impl<'a> Review<'a> {
    pub(super) fn new(migration: &'a Migration, compiled: &'a Compiled) -> Self {
        let all = &compiled.compiler;
        let problems = compiled.built.ingresses.values().map(|view| (&view.ingress, &*view.problems)).collect();
        let options = all.settings.config_map.as_ref().and_then(|key| migration.config_maps.get(key));
        Self { compiler: all, problems, options, migration }
    }

    /// An option of the `ConfigMap`.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options?.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether the `ConfigMap` was found, so that what it does not say is known, too.
    pub(super) fn knows_options(&self) -> bool {
        self.options.is_some()
    }

    /// Whether answers are buffered.
    pub(super) fn buffers(&self, annotation: Option<&str>) -> bool {
        annotation.or(self.option("proxy-buffering")) == Some("on")
    }

    /// Whether there is a Service for what no rule takes.
    pub(super) fn has_default(&self) -> bool {
        self.compiler.settings.default_backend.is_some()
    }

    /// What becomes of an Ingress; `Err` says whose it is, if not ingress-nginx's.
    pub(super) fn of(&self, key: &ObjectKey, ingress: &Ingress) -> Result<IngressReport, String> {
        let Some(linked) = self.compiler.linked.get(key) else { return Err(self.foreign(key)) };
        if linked.dialect != Dialect::IngressNginx {
            return Err("class landfall".to_owned());
        }
        let problems = self.problems.get(key).copied().unwrap_or_default();
        let known: Vec<Problem> = problems.iter().filter(|problem| self.is_known(problem)).cloned().collect();
        let mut report = IngressReport {
            namespace: key.namespace().into(),
            name: key.name().into(),
            verdict: Verdict::Alike,
            routes: self.routes(linked),
            annotations: Vec::new(),
            differs: Vec::new(),
            refused: Vec::new(),
            quirks: Vec::new(),
            broken: Vec::new(),
        };
        let none = BTreeMap::new();
        let raw = ingress.metadata.annotations.as_ref().unwrap_or(&none);
        annotations::judge(raw, &known, &mut report);
        for problem in known.iter().filter(|problem| !is_annotation(problem)) {
            problems::of_object(problem, &mut report);
        }
        silent::by_annotations(self, raw, linked, &mut report);
        silent::of_canary(self, key, raw, linked, &mut report);
        silent::of_hosts(self, raw, linked, &mut report);
        silent::of_services(self, key, raw, linked, &mut report);
        problems::of_services(linked, &mut report);
        quirks::find(self, key, linked, &mut report);
        report.verdict = match (report.refused.is_empty(), report.differs.is_empty()) {
            (false, _) => Verdict::Refused,
            (true, false) => Verdict::Differs,
            (true, true) => Verdict::Alike,
        };
        for list in [&mut report.differs, &mut report.refused, &mut report.broken] {
            list.sort();
            list.dedup();
        }
        Ok(report)
    }

    /// Whether a Problem is one, rather than what comes of objects that were left out of a folder.
    fn is_known(&self, problem: &Problem) -> bool {
        let secret = problem.reason == reason::UNKNOWN_SECRET || problem.cause.starts_with("there is no Secret");
        let service = [reason::UNKNOWN_SERVICE, reason::NO_ENDPOINTS].contains(&problem.reason);
        (self.migration.has_secrets || !secret) && (self.migration.has_services || !service)
    }

    fn foreign(&self, key: &ObjectKey) -> String {
        let Some(stored) = self.compiler.ingresses.get(key) else { return "it is not there".to_owned() };
        let verdict = self.compiler.classes.verdict(key, &stored.parsed.class, &self.compiler.settings);
        verdict
            .ours
            .err()
            .unwrap_or_else(|| "it has a default backend, and --disable-catch-all leaves it out".to_owned())
    }

    /// The paths of the rules, and whether anybody answers.
    fn routes(&self, linked: &Linked) -> Vec<RouteReport> {
        // The implicit path / is nobody's rule.
        let has_default = linked.parsed.default.is_some();
        let of_rules = linked.routes.iter().map(|linked| &linked.route);
        let written = of_rules.filter(|route| route.id.path.is_some() || has_default);
        written.chain(&linked.default).map(|route| self.route(route)).collect()
    }

    fn route(&self, route: &Arc<Route>) -> RouteReport {
        let (backend, endpoints, mut fault) = match &route.action {
            Action::Forward(backend) => {
                let state = backend.state();
                let endpoints = match &state.target {
                    Target::Endpoints(addresses) => addresses.len(),
                    Target::Dns { .. } => 1,
                };
                let fault = state.unavailable.as_ref().map(|why| format!("503: {why}")).unwrap_or_default();
                (backend.key.to_string(), endpoints, fault)
            }
            Action::Unavailable(why) if !self.migration.has_secrets && why.contains("there is no Secret") => {
                (String::new(), 0, "not known, since there are no Secrets among the objects".to_owned())
            }
            Action::Unavailable(why) => (String::new(), 0, format!("503: {why}")),
            Action::NotFound => (String::new(), 0, "404".to_owned()),
        };
        if !self.migration.has_services && matches!(route.action, Action::Forward(_)) {
            "not known, since there are no Services among the objects".clone_into(&mut fault);
        }
        if fault.is_empty() && !self.is_in_force(route) {
            "another Ingress has this path".clone_into(&mut fault);
        }
        RouteReport {
            host: route.id.host.to_string(),
            path: route.written.text(route.id.path.as_ref()).to_owned(),
            path_type: match route.id.path {
                Some(PathRule::Exact(_)) => "Exact",
                Some(PathRule::Prefix(_)) => "Prefix",
                None => "default backend",
            },
            backend,
            endpoints,
            fault,
        }
    }

    fn is_in_force(&self, route: &Arc<Route>) -> bool {
        let table = &self.compiler.table;
        let same = |other: &Arc<Route>| Arc::ptr_eq(other, route);
        let of_host = host_routes(table, &route.id.host).is_some_and(|routes| {
            let regex = routes.regex.iter().map(|regex| &regex.route);
            let mut all = routes.exact.values().chain(routes.prefix.values()).chain(&routes.default).chain(regex);
            all.any(same)
        });
        of_host || table.default.as_ref().is_some_and(same)
    }

    /// The route that a canary gets requests of.
    pub(super) fn main_of(&self, canary: &LinkedCanary) -> Option<&'a Arc<Route>> {
        let routes = host_routes(&self.compiler.table, &canary.host)?;
        let regex = routes.regex.iter().map(|regex| &regex.route);
        let mut all = routes.exact.values().chain(routes.prefix.values()).chain(regex);
        all.find(|route| route.id.path.as_ref() == Some(&canary.path.0))
    }

    /// Other hosts and paths with the Service of a route.
    pub(super) fn others_with(&self, main: &Route, canary: &ObjectKey) -> Vec<String> {
        let Action::Forward(backend) = &main.action else { return Vec::new() };
        let mut found = Vec::new();
        for linked in self.compiler.linked.values() {
            for route in linked.routes.iter().map(|linked| &linked.route) {
                let other = route.id.host != main.id.host || route.id.path != main.id.path;
                let same = matches!(&route.action, Action::Forward(other) if other.key == backend.key);
                let has_own = host_routes(&self.compiler.table, &route.id.host)
                    .is_some_and(|routes| routes.canaries.keys().any(|(rule, _)| Some(rule) == route.id.path.as_ref()));
                if other && same && !has_own && route.id.ingress != *canary && route.id.path.is_some() {
                    found.push(format!("{}{}", route.id.host, route.written.text(route.id.path.as_ref())));
                }
            }
        }
        found.sort();
        found
    }

    /// The annotations of an Ingress as they were written.
    pub(super) fn raw(&self, key: &ObjectKey) -> Option<&'a BTreeMap<String, String>> {
        self.migration.ingresses.get(key)?.metadata.annotations.as_ref()
    }

    /// Other Ingresses of ingress-nginx that have a Service of this one.
    pub(super) fn sharing(&self, key: &ObjectKey, linked: &Linked) -> Vec<&'a ObjectKey> {
        let backend = |route: &Route| match &route.action {
            Action::Forward(backend) => Some(backend.key.clone()),
            _ => None,
        };
        let own: Vec<_> = linked.routes.iter().filter_map(|linked| backend(&linked.route)).collect();
        let all = self.compiler.linked.iter().filter(|(other, linked)| {
            *other != key && linked.dialect == Dialect::IngressNginx && !linked.parsed.annotations.is_canary()
        });
        let shares = |linked: &Linked| {
            linked.routes.iter().filter_map(|linked| backend(&linked.route)).any(|backend| own.contains(&backend))
        };
        let mut found: Vec<_> = all.filter(|(_, linked)| shares(linked)).map(|(key, _)| key).collect();
        found.sort();
        found
    }

    /// Whether a host has a Prefix path that differs only by the slash at its end.
    pub(super) fn has_twin(&self, host: &HostPattern, path: &PathSpec) -> bool {
        let ages = self.compiler.hosts.get(host).into_iter().flatten();
        let all = ages.filter_map(|age| self.compiler.linked.get(&age.key)).flat_map(|linked| &linked.parsed.rules);
        let mut paths = all.filter(|rule| rule.host == *host).flat_map(|rule| &rule.paths);
        paths.any(|other| silent::is_twin(path, other) || silent::is_twin(other, path))
    }

    /// An Ingress whose wider rule would take what a host's rules leave, if the specification held.
    pub(super) fn hides(&self, host: &HostPattern) -> Option<&'a ObjectKey> {
        let table = &self.compiler.table;
        let wider = match host {
            HostPattern::Exact(name) => name.wildcard(),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        };
        let wider = wider.iter().filter_map(|host| host_routes(table, host)).chain([&*table.any]);
        let route = wider.flat_map(|routes| routes.prefix.get("").into_iter().chain(&routes.default)).next();
        route.filter(|_| *host != HostPattern::Any).map(|route| &route.id.ingress)
    }
}

/// Whether a Problem is about an annotation, which is looked at by name.
fn is_annotation(problem: &Problem) -> bool {
    problem.field.starts_with(&format!("metadata.annotations[{}", crate::compiler::annotations::PREFIX))
}
