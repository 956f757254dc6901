//! The keys that hold nginx configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::Options;
use crate::compiler::snippets::cause_of;
use crate::policy::snippet::{Kind, Snippet, names_of, read};
use crate::reason;

/// Whether a key holds configuration of nginx.
pub(super) fn is_snippet(name: &str) -> bool {
    const NAMES: [&str; 6] =
        ["main-snippet", "http-snippet", "stream-snippet", "server-snippet", "location-snippet", "global-auth-snippet"];
    NAMES.contains(&name)
}

impl Options {
    /// Reads the snippets among the data.
    pub(super) fn read_snippets(&mut self, data: &BTreeMap<String, String>, key: &ObjectKey) -> Vec<Problem> {
        const OURS: [(&str, Kind); 3] = [
            ("location-snippet", Kind::LocationOption),
            ("server-snippet", Kind::ServerOption),
            ("global-auth-snippet", Kind::AuthOption),
        ];
        let text = |name: &str| data.get(name).map(String::as_str).filter(|text| !text.trim().is_empty());
        let names = OURS.iter().filter_map(|(name, _)| text(name)).flat_map(names_of).collect();
        let mut problems = Vec::new();
        let object = ObjectRef::new("ConfigMap", key.clone());
        for (name, kind) in OURS {
            let Some(text) = text(name) else { continue };
            let field = format!("data[{name}]");
            match read(kind, text, &names) {
                Ok((snippet, notes)) => {
                    self.take(kind, Arc::new(snippet));
                    problems.extend(notes.into_iter().map(|note| {
                        let cause = format!("{}: {} has no effect: {}", note.at, note.directive, note.cause);
                        let problem = Problem::new(object.clone(), reason::INVALID_CONFIG_MAP, cause);
                        problem.at(&*field, note.directive.to_string()).remedy(note.remedy).warning()
                    }));
                }
                Err(faults) => {
                    self.refused = Some(format!("{name} of the ConfigMap can't be read").into());
                    let effect = "all routes of class nginx answer 503";
                    problems.extend(faults.into_iter().map(|fault| {
                        let cause = cause_of(&fault, effect);
                        let problem = Problem::new(object.clone(), reason::INVALID_CONFIG_MAP, cause);
                        problem.at(&*field, fault.directive.to_string()).remedy(fault.remedy)
                    }));
                }
            }
        }
        for name in ["main-snippet", "http-snippet", "stream-snippet"] {
            if text(name).is_some() {
                let cause = "what stands outside of a server is not run, so none of it has an effect";
                let problem = Problem::new(object.clone(), reason::INVALID_CONFIG_MAP, cause);
                let remedy = "move what holds for requests into server-snippet or location-snippet, and remove it";
                problems.push(problem.at(format!("data[{name}]"), "").remedy(remedy));
            }
        }
        problems
    }

    /// A snippet that was read, for where it holds.
    fn take(&mut self, kind: Kind, snippet: Arc<Snippet>) {
        match kind {
            Kind::ServerOption => self.server_snippet = Some(snippet),
            Kind::AuthOption => {
                // Without a service that everybody asks it holds nowhere, as in ingress-nginx.
                if let Some(auth) = &mut self.global_auth {
                    auth.snippet = Some(snippet);
                }
            }
            _ => self.location_snippet = Some(snippet),
        }
    }
}
