//! What becomes of each annotation of an Ingress.

use std::collections::BTreeMap;

use landfall_model::{Problem, Severity};

use super::findings::Finding;
use super::report::{Annotation, Effect, IngressReport};
use super::values::{Fate, fate, is_dropped};
use crate::compiler::annotations::{KNOWN, PREFIX, Support};
use crate::compiler::suggest::{alternatives, nearest};
use crate::reason;

/// The value of an annotation, unless it is empty, which counts as absent in ingress-nginx.
pub(super) fn value_of<'a>(all: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    all.get(&format!("{PREFIX}{name}")).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// The field of an annotation in a Problem.
pub(super) fn field(name: &str) -> String {
    format!("metadata.annotations[{PREFIX}{name}]")
}

/// Goes through the annotations of an Ingress.
pub(super) fn judge(all: &BTreeMap<String, String>, problems: &[Problem], report: &mut IngressReport) {
    for (key, value) in all {
        let Some(name) = key.strip_prefix(PREFIX) else {
            report.broken.extend(foreign(key, value));
            continue;
        };
        let value = value.trim();
        let field = field(name);
        let mine: Vec<&Problem> = problems.iter().filter(|problem| problem.field == field).collect();
        let (effect, text) = if value.is_empty() {
            (Effect::Needless, "an empty value counts as none".to_owned())
        } else {
            judge_one(name, value, all, &mine, report)
        };
        report.annotations.push(Annotation { name: name.to_owned(), value: value.to_owned(), effect, text });
    }
}

fn judge_one(
    name: &str,
    value: &str,
    all: &BTreeMap<String, String>,
    problems: &[&Problem],
    report: &mut IngressReport,
) -> (Effect, String) {
    let support = KNOWN.binary_search_by_key(&name, |(name, _)| name).ok().map(|index| KNOWN[index].1);
    match support {
        Some(Support::Served) => {
            let effects = problems.iter().map(|problem| with_problem(name, value, all, problem, report));
            let effect = effects.max().unwrap_or(Effect::Served);
            match in_part(name, all).filter(|_| effect == Effect::Served) {
                Some((text, remedy)) => {
                    report.differs.push(Finding::new("in-part", name, text).value(value).remedy(remedy));
                    (Effect::Differs, String::new())
                }
                None => (effect, String::new()),
            }
        }
        Some(Support::Accepted(why)) => without_effect(name, value, why, report),
        Some(Support::Refused(why)) => {
            let text = format!("{why}, so its routes answer 503");
            let finding = Finding::new("annotation", name, text).value(value).remedy(instead_of(name));
            report.refused.push(finding);
            (Effect::Refused, String::new())
        }
        None => {
            report.broken.push(unknown(name, value));
            (Effect::Unknown, String::new())
        }
    }
}

/// An annotation that is served, but not as it stands.
fn with_problem(
    name: &str,
    value: &str,
    all: &BTreeMap<String, String>,
    problem: &Problem,
    report: &mut IngressReport,
) -> Effect {
    let finding = |code, text: String| Finding::new(code, name, text).value(value).remedy(problem.remedy.clone());
    if problem.reason == reason::UNSUPPORTED_ANNOTATION {
        return match (problem.severity, name) {
            (Severity::Error, _) => {
                if problem.remedy.contains("annotations-risk-level") {
                    report.broken.push(finding("dropped", format!("by annotations-risk-level {DROPPED}")));
                }
                report.refused.push(finding("annotation", problem.cause.clone()));
                Effect::Refused
            }
            // Without the flag ingress-nginx ignores it, too.
            (Severity::Warning, "ssl-passthrough") if problem.remedy.contains("--enable") => {
                let text = "without the flag --enable-ssl-passthrough it has no effect in ingress-nginx either";
                report.broken.push(finding("no-effect", text.into()));
                Effect::Needless
            }
            (Severity::Warning, _) => {
                report.differs.push(finding("annotation", problem.cause.clone()));
                Effect::Differs
            }
        };
    }
    if problem.reason == reason::SHARED_SERVICE {
        report.broken.push(finding("no-effect", format!("{}, as in ingress-nginx", problem.cause)));
        return Effect::Needless;
    }
    if name == "auth-secret" && value_of(all, "auth-type").is_some() && problem.cause.contains("without auth-type") {
        // That of auth-type is said already, and mending it mends this.
        return Effect::Refused;
    }
    let fate = match (problem.severity, fate(name, value, all)) {
        // Passwords with hashes that are not known here; the Secret is there.
        (Severity::Warning, Fate::Denied) if name == "auth-secret" => Fate::Works,
        (Severity::Warning, Fate::Denied) if name != "proxy-read-timeout" => Fate::Ignored,
        (_, fate) => fate,
    };
    match fate {
        Fate::Open(how) => report.broken.push(finding("fails-open", how.into())),
        Fate::Dropped => report.broken.push(finding("dropped", DROPPED.into())),
        Fate::Frozen => report.broken.push(finding("frozen", FROZEN.into())),
        Fate::Denied => report.broken.push(finding("denied", denied(name))),
        Fate::Ignored => report.broken.push(finding("ignored", ignored(problem))),
        Fate::Works => {}
    }
    match (problem.severity, fate) {
        (_, Fate::Denied) | (Severity::Warning, Fate::Ignored) => Effect::Invalid,
        (Severity::Error, _) => {
            report.refused.push(finding("value", problem.cause.clone()));
            Effect::Refused
        }
        (Severity::Warning, _) => {
            report.differs.push(finding("value", problem.cause.clone()));
            Effect::Differs
        }
    }
}

pub(super) const DROPPED: &str = "ingress-nginx leaves the whole Ingress out for this, or goes on with an earlier version \
     of it: its host may not exist there, and nobody is told";
pub(super) const FROZEN: &str = "nginx refuses its whole configuration for this: no change of any Ingress takes effect \
     until it is mended, and nobody is told";

fn denied(name: &str) -> String {
    let status = match name {
        "proxy-ssl-verify" => "502",
        "proxy-read-timeout" => "504",
        _ if name.starts_with("auth-tls-") => "403",
        _ => "503",
    };
    format!("it can't be used, so its routes answer {status} in ingress-nginx, too")
}

fn ignored(problem: &Problem) -> String {
    format!("ingress-nginx ignores it, and so does Landfall: {}", problem.cause)
}

/// An annotation that has no effect here.
fn without_effect(name: &str, value: &str, why: &str, report: &mut IngressReport) -> (Effect, String) {
    if is_dropped(name, value) {
        let remedy = "correct the value or remove the annotation";
        report.broken.push(Finding::new("dropped", name, DROPPED).value(value).remedy(remedy));
        let text = "the Ingress is served here, which ingress-nginx leaves out for this value";
        report.differs.push(Finding::new("value", name, text).value(value).remedy(remedy));
        return (Effect::Differs, String::new());
    }
    match lost(name, value) {
        Some((text, remedy)) => {
            report.differs.push(Finding::new("annotation", name, text).value(value).remedy(remedy));
            (Effect::Differs, why.to_owned())
        }
        None => (Effect::Needless, why.to_owned()),
    }
}

/// What is missed of an annotation that has its effect.
fn in_part(name: &str, all: &BTreeMap<String, String>) -> Option<(&'static str, &'static str)> {
    match name {
        "mirror-target" if value_of(all, "mirror-request-body") != Some("off") => Some((
            "bodies of more than 64 KiB are not copied",
            "set mirror-request-body: \"off\", or have large uploads copied by the application",
        )),
        _ => None,
    }
}

/// What is missed of an annotation without effect, and what to do instead; `None` where nobody misses it.
fn lost(name: &str, value: &str) -> Option<(&'static str, &'static str)> {
    let is_off = matches!(value, "false" | "off" | "0");
    let lost = match name {
        "enable-modsecurity" | "enable-owasp-core-rules" if !is_off => (
            "there is no web application firewall, so requests are not inspected",
            "put a firewall such as Coraza before the Service, or leave this Ingress with ingress-nginx",
        ),
        "fastcgi-index" | "fastcgi-params-configmap" => (
            "FastCGI is not spoken",
            "put a web server beside the application that speaks FastCGI to it, and name that",
        ),
        "proxy-http-version" if value != "1.1" => {
            ("backends are spoken to in HTTP/1.1", "have the backend take HTTP/1.1, which it nearly always does")
        }
        _ => return None,
    };
    Some(lost)
}

/// What to write instead of an annotation that is refused.
fn instead_of(name: &str) -> &'static str {
    match name {
        "configuration-snippet" => {
            "say it by annotations: custom-headers for fields of answers, permanent-redirect or rewrite-target for \
             other places, auth-url for questions, denylist-source-range for deny; then remove the snippet"
        }
        "server-snippet" => {
            "give locations Ingresses of their own, and say the rest by annotations; then remove the snippet"
        }
        "auth-snippet" => "name fields for the service by auth-proxy-set-headers; then remove the snippet",
        "stream-snippet" => "create a Service of type LoadBalancer for the port; then remove the snippet",
        "modsecurity-snippet" => "put a firewall such as Coraza before the Service; then remove the snippet",
        _ => "remove the annotation",
    }
}

/// Names of former releases, which nothing reads any more.
const REMOVED: &[(&str, &str)] = &[
    ("add-base-url", "have the application make relative links"),
    ("base-url-scheme", "have the application make relative links"),
    ("enable-dynamic-tls-records", "remove it"),
    ("enable-influxdb", "use /metrics"),
    ("global-rate-limit", "use limit-rps or limit-rpm"),
    ("global-rate-limit-window", "use limit-rps or limit-rpm"),
    ("grpc-backend", "use backend-protocol: GRPC"),
    ("lua-resty-waf", "put a firewall such as Coraza before the Service"),
    ("secure-backends", "use backend-protocol: HTTPS"),
    ("secure-verify-ca-secret", "use proxy-ssl-secret and proxy-ssl-verify"),
    ("session-cookie-hash", "remove it"),
];

/// An annotation that ingress-nginx doesn't know.
fn unknown(name: &str, value: &str) -> Finding {
    if let Some((_, remedy)) = REMOVED.iter().find(|(removed, _)| *removed == name) {
        let text = "later releases of ingress-nginx have removed it, so it has no effect there either";
        return Finding::new("unknown", name, text).value(value).remedy(*remedy);
    }
    let near = nearest(name, KNOWN.iter().map(|(name, _)| *name));
    let remedy = if near.is_empty() {
        "remove it".to_owned()
    } else {
        format!("if {} is meant, write that", alternatives(&near, ""))
    };
    Finding::new("unknown", name, "ingress-nginx does not know it either, so it has no effect")
        .value(value)
        .remedy(remedy)
}

/// Prefixes of others that are taken for that of ingress-nginx.
const FOREIGN: &[(&str, &str)] = &[
    ("nginx.org/", "is read by F5's NGINX Ingress Controller only"),
    ("nginx.com/", "is read by F5's NGINX Ingress Controller only"),
    ("ingress.kubernetes.io/", "has not been read by ingress-nginx since release 0.9"),
];

/// An annotation that looks as if it were one of ingress-nginx.
fn foreign(key: &str, value: &str) -> Option<Finding> {
    let (prefix, text) = FOREIGN.iter().find(|(prefix, _)| key.starts_with(prefix))?;
    let name = &key[prefix.len()..];
    let known = KNOWN.binary_search_by_key(&name, |(name, _)| name).is_ok();
    let remedy = if known { format!("write {PREFIX}{name}, or remove it") } else { "remove it".to_owned() };
    Some(Finding::new("foreign", key, format!("it {text}, so it has no effect")).value(value.trim()).remedy(remedy))
}
