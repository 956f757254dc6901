//! From snippets that were read to what an Ingress and its hosts ask for, as far as snippets are allowed at all.

use std::sync::Arc;

use landfall_model::{ObjectRef, Problem};

use super::Compiler;
use super::annotations::Risk;
use super::ingress::ParsedIngress;
use super::link::Linked;
use crate::policy::snippet::{Kind, Snippet, SnippetFault};
use crate::reason;
use crate::table::ServerSnippet;

/// The snippets of an Ingress.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snippets {
    pub(crate) configuration: Option<Arc<Snippet>>,
    pub(crate) auth: Option<Arc<Snippet>>,
    /// What holds for its hosts; `Err`: nothing of them is served.
    pub(crate) server: Option<ServerSnippet>,
    /// Why its routes must answer 503.
    pub(crate) refused: Option<Arc<str>>,
}

impl Compiler {
    /// The snippets of an Ingress. One that can't be read, or may not be there, has no part that is used.
    pub(super) fn snippets(&self, parsed: &ParsedIngress, problems: &mut Vec<Problem>) -> Snippets {
        let mut snippets = Snippets::default();
        let object = || ObjectRef::new("Ingress", parsed.age.key.clone());
        let field = |key: &str| format!("metadata.annotations[{key}]");
        for written in parsed.annotations.snippets.iter() {
            let kind = written.kind;
            if !self.options.allows_snippets {
                let cause = format!("{kind} is not allowed, so the routes of this Ingress answer 503");
                let risk =
                    if self.options.risk < Risk::Critical { " and annotations-risk-level: Critical" } else { "" };
                let remedy = format!(
                    "set allow-snippet-annotations: \"true\"{risk} in the ConfigMap that --config-map names, or remove \
                     the annotation"
                );
                let problem = Problem::new(object(), reason::UNSUPPORTED_ANNOTATION, cause);
                problems.push(problem.at(field(&written.key), "").remedy(remedy));
                snippets.refused = Some(format!("{kind} is not allowed").into());
                continue;
            }
            if self.options.risk < Risk::Critical {
                // The Problem is that of the level, as for any other annotation.
                snippets.refused = Some(format!("the risk of {kind} is too high").into());
                continue;
            }
            match &written.outcome {
                Ok((snippet, notes)) => {
                    problems.extend(notes.iter().map(|note| {
                        let cause = format!("{}: {} has no effect: {}", note.at, note.directive, note.cause);
                        let problem = Problem::new(object(), reason::UNSUPPORTED_ANNOTATION, cause);
                        problem
                            .at(field(&written.key), note.directive.to_string())
                            .remedy(note.remedy.clone())
                            .warning()
                    }));
                    let snippet = Some(snippet.clone());
                    match kind {
                        Kind::Server | Kind::ServerOption => snippets.server = snippet.map(Ok),
                        Kind::Auth | Kind::AuthOption => snippets.auth = snippet,
                        Kind::Configuration | Kind::LocationOption => snippets.configuration = snippet,
                    }
                }
                Err(faults) => {
                    let effect = match kind {
                        Kind::Server => "the hosts of this Ingress answer 503",
                        _ => "the routes of this Ingress answer 503",
                    };
                    for fault in faults {
                        let problem = Problem::new(object(), reason::INVALID_ANNOTATION, cause_of(fault, effect));
                        let problem = problem.at(field(&written.key), fault.directive.to_string());
                        problems.push(problem.remedy(fault.remedy.clone()));
                    }
                    let why: Arc<str> = format!("{kind} can't be read").into();
                    if kind == Kind::Server {
                        snippets.server = Some(Err(why.clone()));
                    }
                    snippets.refused = Some(why);
                }
            }
        }
        snippets
    }
}

/// The place, the directive, what is wrong with it, and what comes of that.
pub(super) fn cause_of(fault: &SnippetFault, effect: &str) -> String {
    if fault.directive.is_empty() || fault.cause.starts_with(&*fault.directive) {
        return format!("{}: {}, so {effect}", fault.at, fault.cause);
    }
    format!("{}: {}: {}, so {effect}", fault.at, fault.directive, fault.cause)
}

/// A server-snippet that stays without effect, since a host has one.
pub(super) fn second(linked: &Linked, first: &landfall_model::ObjectKey) -> Option<Problem> {
    let written = linked.parsed.annotations.snippets.iter().find(|written| written.kind == Kind::Server)?;
    let object = ObjectRef::new("Ingress", linked.parsed.age.key.clone());
    let cause =
        format!("its host has the server-snippet of ingress {first}, which is older, so this one has no effect");
    let problem = Problem::new(object, reason::INVALID_ANNOTATION, cause);
    let field = format!("metadata.annotations[{}]", written.key);
    Some(problem.at(field, "").remedy(format!("put its directives into the server-snippet of {first}")).warning())
}
