//! The steps that a request passed, in words.

use serde::Serialize;

use crate::pipeline::{Decision, Stage};
use crate::policy::Words;
use crate::table::{Action, Route};

/// One step of the pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StepTaken {
    /// What it is about.
    pub step: &'static str,
    /// What it goes by, where anything is asked for.
    pub by: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The request went on.
    Passed,
    /// The request was answered.
    Answered,
    /// Somebody else has to be asked first.
    Asks,
    /// The request goes to its backend.
    Forwarded,
}

impl Outcome {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Answered => "answered",
            Self::Asks => "asks first",
            Self::Forwarded => "goes to the backend",
        }
    }
}

/// The steps in words; the last one ended the passage.
pub(super) fn told(stages: &[Stage], decision: &Decision, route: Option<&Route>) -> Vec<StepTaken> {
    let words = route.map(|route| route.policy.words()).unwrap_or_default();
    let end = match decision {
        Decision::Answer(..) => Outcome::Answered,
        Decision::Ask(_) => Outcome::Asks,
        Decision::Forward(_) => Outcome::Forwarded,
    };
    let told = |(index, stage): (usize, &Stage)| StepTaken {
        step: name(*stage),
        by: by(*stage, &words, route),
        outcome: if index + 1 == stages.len() { end } else { Outcome::Passed },
    };
    stages.iter().enumerate().map(told).collect()
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Blocked => "blocked clients",
        Stage::OtherName => "other name of the host",
        Stage::HostCertificate => "client certificate of the host",
        Stage::ServerSnippet => "snippets of the host",
        Stage::AppRoot => "application root",
        Stage::Route => "rule",
        Stage::RouteCertificate => "client certificate of the rule",
        Stage::Method => "method",
        Stage::BodySize => "size of the body",
        Stage::MissingSlash => "missing slash",
        Stage::Preflight => "preflight",
        Stage::LocationSnippet => "snippets of the location",
        Stage::Redirect => "redirect",
        Stage::Https => "HTTPS",
        Stage::Backend => "backend",
        Stage::Endpoints => "endpoints",
        Stage::Limit => "limit",
        Stage::Access => "access",
        Stage::Rewrite => "rewrite",
        Stage::Authentication => "authentication",
    }
}

/// What a step goes by.
fn by(stage: Stage, words: &[Words], route: Option<&Route>) -> Option<String> {
    let about = match stage {
        Stage::BodySize => "request body",
        Stage::Preflight => "CORS",
        Stage::Redirect => "redirect",
        Stage::Https => "HTTPS",
        Stage::Limit => "limit",
        Stage::Access => "access",
        Stage::Rewrite => "rewrite",
        Stage::Authentication => "authentication",
        Stage::Route => {
            let id = &route?.id;
            let path = id.path.as_ref().map_or_else(|| "default backend".to_owned(), ToString::to_string);
            return Some(format!("{} {path} of {}", id.host, id.ingress));
        }
        Stage::Backend => {
            return match &route?.action {
                Action::Forward(backend) => Some(backend.key.to_string()),
                Action::Unavailable(why) => Some(why.to_string()),
                Action::NotFound => None,
            };
        }
        Stage::Endpoints => {
            return match &route?.action {
                Action::Forward(backend) => {
                    let now = backend.state();
                    Some(match &now.unavailable {
                        Some(why) => why.to_string(),
                        None => format!("{} ready", now.addresses().len().max(1)),
                    })
                }
                Action::Unavailable(_) | Action::NotFound => None,
            };
        }
        _ => return None,
    };
    words.iter().find(|words| words.about == about).map(|words| words.text.clone())
}
