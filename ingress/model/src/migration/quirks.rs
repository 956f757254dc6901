//! Answers that rest on a way of ingress-nginx which the Kubernetes specification does not have. Landfall gives the same
//! answers to Ingresses of class nginx; who writes new ones for another class should know.

use std::fmt::Write as _;

use landfall_model::ObjectKey;

use super::findings::Finding;
use super::report::IngressReport;
use super::review::{Review, host_routes};
use crate::compiler::ingress::PathSpec;
use crate::compiler::link::Linked;
use crate::host::HostPattern;
use crate::table::{Action, HostRoutes, HttpsRedirect, PathRule, Route};

/// Finds the quirks that answers of an Ingress rest on.
pub(super) fn find(review: &Review<'_>, key: &ObjectKey, linked: &Linked, report: &mut IngressReport) {
    redirects(key, linked, report);
    for rule in &linked.parsed.rules {
        let Some(routes) = host_routes(&review.compiler.table, &rule.host) else { continue };
        if routes.regex.is_empty() {
            for path in &rule.paths {
                report.quirks.extend(plain_path(&rule.host, path));
            }
        } else {
            let cause = cause_of(routes);
            for path in rule.paths.iter().filter(|path| path.text() != "/") {
                report.quirks.push(regex_path(&rule.host, path, &cause, key));
            }
        }
        report.quirks.extend(implicit_root(review, key, &rule.host, routes));
        let asks = report.annotations.iter().any(|one| one.name == "auth-tls-secret");
        if routes.client_certificates.is_some() && !asks {
            let text = "another Ingress of this host asks for client certificates, and so every path of it does";
            report.quirks.push(Finding::new("host-wide", rule.host.to_string(), text));
        }
    }
    report.quirks.sort();
    report.quirks.dedup();
}

/// The Ingress that makes the paths of a host regular expressions: the first one in their order.
fn cause_of(routes: &HostRoutes) -> ObjectKey {
    let all = routes.regex.iter().map(|regex| &regex.route).chain(&routes.default);
    let mut causes = all.filter(|route| route.written.is_regex).map(|route| &route.id.ingress);
    causes.next().cloned().unwrap_or_else(|| ObjectKey::cluster(""))
}

/// A path of a host whose paths are regular expressions.
fn regex_path(host: &HostPattern, path: &PathSpec, cause: &ObjectKey, key: &ObjectKey) -> Finding {
    let text = path.text();
    let by = if cause == key { "this Ingress".to_owned() } else { format!("ingress {cause}") };
    let literal = !text.contains(|letter: char| "[](){}*+?|^$\\".contains(letter));
    let matches = if literal {
        let kind = if matches!(path.rule, PathRule::Exact(_)) { "Exact" } else { "Prefix" };
        format!("{kind} {text} also takes {text}x and {}", text.to_uppercase())
    } else if text.ends_with(['$', '*']) || text.ends_with("*)") {
        format!("{text} is matched without regard to letter case")
    } else {
        format!("{text} is matched without regard to letter case and open at its end")
    };
    let finding = Finding::new(
        "regex-host",
        format!("{host}{text}"),
        format!("use-regex or rewrite-target of {by} makes every path of host {host} a regular expression: {matches}"),
    );
    let dots = literal && text.contains('.');
    if dots {
        Finding { text: format!("{}, and its dot stands for any character", finding.text), ..finding }
    } else {
        finding
    }
}

/// A path of a host without regular expressions.
fn plain_path(host: &HostPattern, path: &PathSpec) -> Vec<Finding> {
    let text = path.text();
    let mut findings = Vec::new();
    if text.len() > 1 && text.ends_with('/') {
        let bare = text.trim_end_matches('/');
        let what = format!("{bare} is answered with 301 to {text}, POST too");
        findings.push(Finding::new("slash-redirect", format!("{host}{text}"), what));
    }
    if path.is_free && text != "/" {
        let what = "ImplementationSpecific is taken as Prefix: whole elements of the path, with regard to letter case";
        findings.push(Finding::new("path-type", format!("{host}{text}"), what));
    }
    if text.contains('%') {
        let what = "a path is matched after %xx of the request is decoded, so this one is hardly ever asked for";
        findings.push(Finding::new("percent", format!("{host}{text}"), what));
    }
    findings
}

/// Redirects that lose a slash, or that the TLS entry of another Ingress causes.
fn redirects(key: &ObjectKey, linked: &Linked, report: &mut IngressReport) {
    let redirecting = |route: &Route| matches!(route.policy.https_redirect, HttpsRedirect::IngressNginx { .. });
    let found = linked.routes.iter().map(|linked| &linked.route).find(|route| redirecting(route));
    let Some(route) = found else { return };
    let host = &route.id.host;
    if matches!(route.policy.https_redirect, HttpsRedirect::IngressNginx { keeps_slash: false, .. }) {
        let text =
            format!("http://{host}/a/ is sent to https://{host}/a: the last slash is dropped on the way to HTTPS");
        let finding = Finding::new("dropped-slash", host.to_string(), text);
        report.quirks.push(finding.remedy("set preserve-trailing-slash: \"true\", if an application minds"));
    }
    let forced = matches!(report.annotations.iter().find(|one| one.name == "force-ssl-redirect"), Some(one) if one.value == "true");
    if linked.parsed.tls.is_empty() && !forced {
        let text = format!("{key} has no TLS entry, but another Ingress has one for host {host}, so it redirects, too");
        report.quirks.push(Finding::new("tls-of-another", host.to_string(), text));
    }
}

/// What the oldest Ingress of a host does with paths that no rule has.
fn implicit_root(review: &Review<'_>, key: &ObjectKey, host: &HostPattern, routes: &HostRoutes) -> Option<Finding> {
    let route = routes.default.as_ref().filter(|route| route.id.ingress == *key)?;
    let is_reached = !routes.prefix.contains_key("") && !routes.regex.iter().any(|regex| is_root(&regex.route));
    if !is_reached || !matches!(route.action, Action::NotFound) {
        return None;
    }
    let policy = &route.policy;
    let mut first: Vec<&str> = Vec::new();
    if policy.redirect.is_some() {
        first.push("redirects");
    } else if policy.https_redirect != HttpsRedirect::Never {
        first.push("sends to HTTPS");
    }
    first.extend(policy.access.is_some().then_some("asks for an allowed address"));
    first.extend(policy.auth.is_some().then_some("asks for authentication"));
    first.extend(policy.cors.is_some().then_some("answers preflights"));
    let hidden = review.hides(host);
    if first.is_empty() && hidden.is_none() {
        return None;
    }
    let mut text = format!("paths of host {host} that no rule has are this Ingress's, since it is the oldest: it ");
    if first.is_empty() {
        text.push_str("answers 404");
    } else {
        text.push_str(&first.join(", "));
        text.push_str(", then answers 404");
    }
    if let Some(other) = hidden {
        let _ = write!(text, "; the rule of ingress {other} without this host does not get them");
    }
    Some(Finding::new("implicit-root", host.to_string(), text))
}

fn is_root(route: &Route) -> bool {
    route.written.text(route.id.path.as_ref()) == "/"
}
