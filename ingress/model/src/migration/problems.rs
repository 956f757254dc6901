//! What is wrong with an Ingress and its Services besides annotations, and what that is in ingress-nginx.

use landfall_model::{Problem, Severity};

use super::findings::Finding;
use super::report::IngressReport;
use crate::backend::{Affinity, Protocol};
use crate::compiler::link::Linked;
use crate::reason;
use crate::table::Action;

/// What is wrong with something else than an annotation.
pub(super) fn of_object(problem: &Problem, report: &mut IngressReport) {
    let finding = |code, text: String| {
        Finding::new(code, problem.field.clone(), text).value(problem.value.clone()).remedy(problem.remedy.clone())
    };
    let cause = || problem.cause.clone();
    match problem.reason {
        reason::HOST_NOT_OWNED => report.differs.push(finding("certificate", cause())),
        reason::EXTERNAL_NAME_REFUSED => report.differs.push(finding("external-name", cause())),
        reason::INVALID_PATH if is_pcre(&problem.value) => {
            report.refused.push(finding("regular-expression", cause()));
        }
        reason::INVALID_PATH if problem.cause.contains("regular expression") => {
            report.broken.push(finding("frozen", super::annotations::FROZEN.to_owned()));
        }
        reason::CANARY_WITHOUT_MAIN => report.broken.push(finding("canary-without-main", cause())),
        reason::PATH_CONFLICT | reason::DUPLICATE_PATH | reason::DEFAULT_BACKEND_CONFLICT => {
            report.broken.push(finding("lost", cause()));
        }
        reason::UNKNOWN_SECRET
        | reason::INCOMPLETE_SECRET
        | reason::INVALID_CERTIFICATE
        | reason::INVALID_KEY
        | reason::KEY_MISMATCH
        | reason::CERTIFICATE_EXPIRED
        | reason::CERTIFICATE_NOT_YET_VALID
        | reason::CERTIFICATE_NAME_MISMATCH => report.broken.push(finding("certificate", cause())),
        reason::UNKNOWN_SERVICE
        | reason::UNKNOWN_PORT
        | reason::NO_ENDPOINTS
        | reason::RESOURCE_BACKEND
        | reason::INVALID_BACKEND
        | reason::INVALID_EXTERNAL_NAME
        | reason::UNSUPPORTED_PROTOCOL => {
            report.broken.push(finding("unavailable", cause()));
        }
        // Several namespaces on one host, and what is wrong with a Service besides: alike in both.
        _ if problem.severity == Severity::Warning => {}
        _ => report.broken.push(finding("fault", cause())),
    }
}

/// What Services say that ingress-nginx does not read.
pub(super) fn of_services(linked: &Linked, report: &mut IngressReport) {
    for route in linked.routes.iter().map(|linked| &linked.route).chain(&linked.default) {
        let Action::Forward(backend) = &route.action else { continue };
        let state = backend.state();
        let spoken = state.protocol;
        if linked.parsed.annotations.protocol().is_none() && spoken != Protocol::default() {
            let text = format!("appProtocol of the Service says {spoken:?}, which ingress-nginx does not read");
            let finding = Finding::new("app-protocol", backend.key.to_string(), text);
            let remedy = "set backend-protocol: HTTP, if the backend speaks plain HTTP, or HTTPS or GRPC, if not";
            report.differs.push(finding.remedy(remedy));
        }
        if state.affinity != Affinity::None {
            let text = "sessionAffinity of the Service keeps clients at one endpoint, which ingress-nginx does not do";
            let finding = Finding::new("session-affinity", backend.key.to_string(), text);
            report.differs.push(finding.remedy("set sessionAffinity: None, if clients need not stay"));
        }
    }
}

/// Whether a regular expression needs what PCRE has and linear time does not allow.
fn is_pcre(path: &str) -> bool {
    let looks = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "\\1", "\\2", "*+", "++", "?+"];
    looks.iter().any(|look| path.contains(look))
}
