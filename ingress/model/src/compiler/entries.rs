//! The routes of a host, entered one by one: the first one has a path, and some paths are regular expressions.

use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::link::{Linked, LinkedRoute};
use super::tables::same;
use crate::policy::path_regex;
use crate::policy::snippet::Snippet;
use crate::reason;
use crate::table::{Action, Dialect, HostRoutes, Map, PathRule, RegexRoute, Route};

impl HostRoutes {
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty() && self.regex.is_empty() && self.default.is_none()
    }

    /// Takes in what an Ingress says of TLS, unless an older one has.
    pub(super) fn take_tls_of(&mut self, linked: &Linked) {
        if self.client_certificates.is_none() {
            self.client_certificates.clone_from(&linked.client_certificates);
        }
        if self.tls.is_none() {
            self.tls.clone_from(&linked.parsed.annotations.names.tls);
        }
        let has_secret = linked.parsed.annotations.upstream_tls.secret.is_some();
        if self.upstream_tls.is_none() && has_secret && linked.dialect == Dialect::IngressNginx {
            self.upstream_tls.clone_from(&linked.upstream_tls);
        }
    }

    /// Takes in the server-snippet of an Ingress, unless an older one has one; then the Problem is that it has none.
    pub(super) fn take_snippet_of(&mut self, linked: &Linked) -> Option<Problem> {
        let snippet = linked.snippets.server.as_ref().filter(|_| !linked.parsed.annotations.is_canary())?;
        if let Some((_, first)) = &self.server_snippet {
            return super::snippets::second(linked, first);
        }
        self.server_snippet = Some((snippet.clone(), linked.parsed.age.key.clone()));
        None
    }

    /// Adds what holds for every server in the dialect of ingress-nginx.
    pub(super) fn add_snippet(&mut self, snippet: &Arc<Snippet>) {
        let snippet = match self.server_snippet.take() {
            Some((Ok(own), key)) => (Ok(own.followed_by(Some(snippet))), key),
            Some(refused) => refused,
            None => (Ok(snippet.clone()), ObjectKey::cluster("")),
        };
        self.server_snippet = Some(snippet);
    }

    /// Enters a route unless its place is taken; the Problem is that it is.
    pub(super) fn enter(&mut self, candidate: &LinkedRoute) -> Option<Problem> {
        let route = &candidate.route;
        let text = text_of(route);
        let as_nginx = self.dialect == Dialect::IngressNginx;
        let winner = match &route.id.path {
            Some(PathRule::Exact(path)) => {
                let path = if as_nginx { text.into() } else { path.clone() };
                self.exact.entry(path).or_insert_with(|| route.clone())
            }
            Some(PathRule::Prefix(path)) => {
                let path = if as_nginx { text.strip_suffix('/').unwrap_or(text).into() } else { path.clone() };
                if as_nginx && text.len() > 1 && text.ends_with('/') && !self.prefix.contains_key(&path) {
                    self.slashed.insert(path.clone());
                }
                self.prefix.entry(path).or_insert_with(|| route.clone())
            }
            // The implicit path / of the oldest Ingress holds, without a word to the others.
            None if matches!(route.action, Action::NotFound) => {
                if as_nginx {
                    self.default.get_or_insert_with(|| route.clone());
                }
                return None;
            }
            None => self.default.get_or_insert_with(|| route.clone()),
        };
        (!Arc::ptr_eq(winner, route)).then(|| lost(candidate, winner))
    }

    /// Makes regular expressions of the paths that are some: in the dialect of ingress-nginx of all, as soon as one
    /// is. The Problems are those that can't be read.
    pub(super) fn compile(&mut self) -> Vec<Problem> {
        let routes = self.exact.values().chain(self.prefix.values()).chain(&self.default);
        if !routes.clone().any(|route| route.written.is_regex) {
            return Vec::new();
        }
        let all = self.dialect == Dialect::IngressNginx;
        let mut taken: Vec<Arc<Route>> = Vec::new();
        for map in [&mut self.exact, &mut self.prefix] {
            let (regex, plain) = std::mem::take(map).into_iter().partition(|(_, route)| all || route.written.is_regex);
            *map = plain;
            taken.extend(Map::into_values(regex));
        }
        // The longest text first, then the last one in the order of the alphabet; Exact before Prefix.
        taken.sort_by(|a, b| {
            let (left, right) = (text_of(a), text_of(b));
            right.len().cmp(&left.len()).then_with(|| right.cmp(left)).then_with(|| a.id.path.cmp(&b.id.path))
        });
        let mut problems = Vec::new();
        for route in taken {
            match path_regex(text_of(&route), true) {
                Ok(pattern) => self.regex.push(RegexRoute { pattern, route }),
                Err(error) => problems.push(bad_pattern(&route, &error)),
            }
        }
        problems
    }

    /// Whether a rule has this very path.
    pub(super) fn has_path(&self, (rule, text): &(PathRule, Box<str>)) -> bool {
        let as_nginx = self.dialect == Dialect::IngressNginx;
        let route = match rule {
            PathRule::Exact(path) => self.exact.get(if as_nginx { text } else { path }),
            PathRule::Prefix(_) if as_nginx => self.prefix.get(text.strip_suffix('/').unwrap_or(text)),
            PathRule::Prefix(path) => self.prefix.get(path),
        };
        route.is_some_and(|route| route.id.path.as_ref() == Some(rule) && text_of(route) == &**text)
    }

    /// Whether both are made of the very same routes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_map = |a: &Map<Box<str>, Arc<Route>>, b: &Map<_, _>| {
            a.len() == b.len() && a.iter().all(|(path, route)| same(Some(route), b.get(path)))
        };
        let regex = self.regex.len() == other.regex.len()
            && self.regex.iter().zip(&other.regex).all(|(a, b)| Arc::ptr_eq(&a.route, &b.route));
        let canaries = self.canaries.len() == other.canaries.len()
            && self.canaries.iter().all(|(path, canaries)| {
                other.canaries.get(path).is_some_and(|others| {
                    canaries.len() == others.len()
                        && canaries
                            .iter()
                            .zip(others)
                            .all(|(a, b)| Arc::ptr_eq(&a.backend, &b.backend) && a.rule == b.rule)
                })
            });
        regex
            && canaries
            && self.dialect == other.dialect
            && self.slashed == other.slashed
            && self.app_root == other.app_root
            && self.passes_through == other.passes_through
            && self.client_certificates == other.client_certificates
            && self.tls == other.tls
            && self.upstream_tls == other.upstream_tls
            && self.server_snippet == other.server_snippet
            && same_map(&self.exact, &other.exact)
            && same_map(&self.prefix, &other.prefix)
            && same(self.default.as_ref(), other.default.as_ref())
            && self.owner == other.owner
            && self.others.len() == other.others.len()
            && self
                .others
                .iter()
                .all(|(name, routes)| other.others.get(name).is_some_and(|other| routes.is_same(other)))
    }
}

/// The path of a route as it was written.
pub(super) fn text_of(route: &Route) -> &str {
    route.written.text(route.id.path.as_ref())
}

/// A path that is to be a regular expression and can't be read as one. Only its own Ingress suffers.
fn bad_pattern(route: &Route, error: &regex::Error) -> Problem {
    let text = text_of(route);
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let cause = format!("the path can't be read as a regular expression ({last}), so it takes no request");
    let object = ObjectRef::new("Ingress", route.id.ingress.clone());
    let problem = Problem::new(object, reason::INVALID_PATH, cause).at("spec.rules.http.paths.path", text);
    problem.remedy("correct the expression; look-around and back references are not taken")
}

fn lost(loser: &LinkedRoute, winner: &Arc<Route>) -> Problem {
    let id = &loser.route.id;
    let object = ObjectRef::new("Ingress", id.ingress.clone());
    let Some(path) = &id.path else {
        let cause =
            format!("host {} has the default backend of ingress {}, which is older", id.host, winner.id.ingress);
        let problem = Problem::new(object, reason::DEFAULT_BACKEND_CONFLICT, cause);
        return problem.at("spec.defaultBackend", "").remedy("keep one of the two").warning();
    };
    let (PathRule::Exact(written) | PathRule::Prefix(written)) = path;
    let written = if written.is_empty() { "/" } else { written };
    let field = format!("{}.path", loser.place.path());
    if winner.id.ingress == id.ingress {
        let cause = format!("host {} has path {path} in this Ingress already; the first one holds", id.host);
        let problem = Problem::new(object, reason::DUPLICATE_PATH, cause).at(field, written);
        return problem.remedy("remove one of the two");
    }
    let cause = format!("host {} has path {path} in ingress {}, which is older", id.host, winner.id.ingress);
    let problem = Problem::new(object, reason::PATH_CONFLICT, cause).at(field, written);
    problem.remedy("use another host or path, or remove one of the two")
}
