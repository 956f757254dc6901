//! What does not work in ingress-nginx as its owner believes, without a word to anybody: annotations that lack what they
//! need, Ingresses that are left out, protection that is none.

use std::collections::BTreeMap;

use landfall_model::ObjectKey;

use super::annotations::{DROPPED, FROZEN, value_of};
use super::findings::Finding;
use super::report::IngressReport;
use super::review::{Review, host_routes};
use crate::compiler::annotations::PREFIX;
use crate::compiler::annotations::value::boolean;
use crate::compiler::ingress::PathSpec;
use crate::compiler::link::Linked;
use crate::host::HostPattern;
use crate::table::{HttpsRedirect, PathRule};

/// The raw annotations of an Ingress.
pub(super) type Raw = BTreeMap<String, String>;

/// Annotations that do nothing without another one: which, the ones needed, and what happens without.
const NEEDS: &[(&[&str], &[&str], &str)] = &[
    (
        &["auth-signin", "auth-method", "auth-response-headers", "auth-cache-key", "auth-proxy-set-headers"],
        &["auth-url"],
        "without auth-url nobody is asked, so everybody is let in",
    ),
    (&["auth-realm", "auth-secret-type"], &["auth-type"], "without auth-type nobody is asked for a password"),
    (
        &["cors-allow-origin", "cors-allow-methods", "cors-allow-headers", "cors-allow-credentials", "cors-max-age"],
        &["enable-cors"],
        "without enable-cors no field is sent",
    ),
    (
        &[
            "session-cookie-name",
            "session-cookie-path",
            "session-cookie-max-age",
            "session-cookie-expires",
            "session-cookie-samesite",
            "session-cookie-secure",
            "affinity-mode",
        ],
        &["affinity"],
        "without affinity: cookie there is no cookie",
    ),
    (
        &["limit-burst-multiplier", "limit-allowlist", "limit-whitelist"],
        &["limit-rps", "limit-rpm", "limit-connections"],
        "without a limit it does nothing",
    ),
    (&["x-forwarded-prefix"], &["rewrite-target"], "without rewrite-target the field is not sent"),
    (&["mirror-host", "mirror-request-body"], &["mirror-target"], "without mirror-target nothing is copied"),
    (&["proxy-redirect-from"], &["proxy-redirect-to"], "without proxy-redirect-to nothing is rewritten"),
    (&["proxy-redirect-to"], &["proxy-redirect-from"], "without proxy-redirect-from nothing is rewritten"),
    (&["limit-rate-after"], &["limit-rate"], "without limit-rate bodies are sent as fast as they can be"),
    (&["permanent-redirect-code"], &["permanent-redirect"], "without permanent-redirect nobody is redirected"),
    (&["temporal-redirect-code"], &["temporal-redirect"], "without temporal-redirect nobody is redirected"),
    (
        &["proxy-ssl-name", "proxy-ssl-server-name", "proxy-ssl-verify-depth", "proxy-ssl-protocols"],
        &["proxy-ssl-secret"],
        "without proxy-ssl-secret none of proxy-ssl-* has an effect in ingress-nginx",
    ),
    (
        &["auth-tls-verify-depth", "auth-tls-error-page", "auth-tls-pass-certificate-to-upstream"],
        &["auth-tls-secret"],
        "without auth-tls-secret nobody is asked for a certificate",
    ),
];

/// What is there of an Ingress by its annotations alone.
pub(super) fn by_annotations(review: &Review<'_>, raw: &Raw, linked: &Linked, report: &mut IngressReport) {
    let value = |name: &str| value_of(raw, name);
    let is_on = |name: &str| value(name).is_some_and(|value| boolean(value).unwrap_or(false));
    let global_auth = review.option("global-auth-url").is_some();
    for (names, needed, text) in NEEDS {
        let is_there = |name: &&str| if *name == "enable-cors" { is_on(name) } else { value(name).is_some() };
        if needed.iter().any(is_there) || (needed.contains(&"auth-url") && global_auth) {
            continue;
        }
        if let Some(name) = names.iter().find(|name| value(name).is_some()) {
            let code =
                if text.contains("let in") || text.contains("nobody is asked") { "fails-open" } else { "no-effect" };
            let finding = Finding::new(code, *name, *text).value(value(name).unwrap_or_default());
            report.broken.push(finding.remedy(format!("add {}, or remove it", needed.join(" or "))));
        }
    }
    snippets(review, raw, report);
    canary(raw, report);
    if let (Some(permanent), Some(_)) = (value("permanent-redirect"), value("temporal-redirect")) {
        let finding = Finding::new("overridden", "permanent-redirect", "temporal-redirect is there too and wins");
        report.broken.push(finding.value(permanent).remedy("keep one of the two"));
    }
    if let (Some(rate), false) = (value("limit-rate"), review.buffers(value("proxy-buffering"))) {
        let text = "ingress-nginx limits the rate only with proxy-buffering: \"on\"; here it is always limited";
        let finding = Finding::new("limit-rate", "limit-rate", text).value(rate);
        report.differs.push(finding.remedy("remove limit-rate, if answers were fast enough for everybody"));
    }
    if let (Some(errors), None, false) = (value("custom-http-errors"), value("default-backend"), review.has_default()) {
        let text = "without default-backend these answers become the 404 page, whatever their status";
        let finding = Finding::new("errors-become-404", "custom-http-errors", text).value(errors);
        report.broken.push(finding.remedy("name the Service of the pages by default-backend"));
    }
    groups(raw, linked, report);
}

/// While snippets are not allowed, ingress-nginx leaves out each Ingress that has one.
fn snippets(review: &Review<'_>, raw: &Raw, report: &mut IngressReport) {
    let allowed = review.option("allow-snippet-annotations").is_some_and(|value| boolean(value).unwrap_or(false));
    let found = raw.keys().filter_map(|key| key.strip_prefix(PREFIX)).find(|name| name.ends_with("-snippet"));
    if let Some(name) = found.filter(|_| !allowed && review.knows_options()) {
        let text = format!("while allow-snippet-annotations is not \"true\", {DROPPED}");
        report.broken.push(Finding::new("dropped", name, text).remedy("remove the snippet"));
    }
}

/// Annotations of a canary that is none.
fn canary(raw: &Raw, report: &mut IngressReport) {
    let is_canary = value_of(raw, "canary").is_some_and(|value| boolean(value).unwrap_or(false));
    let names = ["canary-weight", "canary-by-header", "canary-by-cookie"];
    let Some(name) = names.into_iter().find(|name| value_of(raw, name).is_some() && !is_canary) else { return };
    let text = "without canary: \"true\" this is an ordinary Ingress, which competes with the one that it is to be a \
                canary of: the older of the two gets everything";
    report.broken.push(Finding::new("canary-not-enabled", name, text).remedy("add canary: \"true\""));
}

/// A rewrite that names a group which its path does not have.
fn groups(raw: &Raw, linked: &Linked, report: &mut IngressReport) {
    let Some(target) = value_of(raw, "rewrite-target") else { return };
    let highest = (1..=9).rev().find(|number| target.contains(&format!("${number}")));
    let Some(highest) = highest else { return };
    for path in linked.parsed.rules.iter().flat_map(|rule| &rule.paths) {
        let groups = crate::policy::path_regex(path.text(), true).map_or(usize::MAX, |regex| regex.captures_len() - 1);
        if groups < highest {
            let text = format!("path {} has {groups} groups, so ${highest} of {target} is always empty", path.text());
            let remedy = "write the path with a group, such as /app(/|$)(.*), or the target without";
            report.broken.push(Finding::new("empty-group", "rewrite-target", text).value(target).remedy(remedy));
        }
    }
}

/// What a canary does that nobody asked for.
pub(super) fn of_canary(review: &Review<'_>, key: &ObjectKey, raw: &Raw, linked: &Linked, report: &mut IngressReport) {
    if !linked.parsed.annotations.is_canary() {
        return;
    }
    let own = ["canary", "load-balance", "upstream-hash-by", "affinity", "session-cookie"];
    let names = raw.keys().filter_map(|name| name.strip_prefix(PREFIX));
    let ignored: Vec<&str> = names.filter(|name| !own.iter().any(|own| name.starts_with(own))).collect();
    if !ignored.is_empty() {
        let text = "on a canary they have no effect: those of the Ingress that it is a canary of hold";
        let finding = Finding::new("canary-ignores", ignored.join(", "), text);
        report.broken.push(finding.remedy("put them on that Ingress, and remove them here"));
    }
    for canary in &linked.canaries {
        let Some(routes) = host_routes(&review.compiler.table, &canary.host) else { continue };
        let of_path = routes.canaries.get(&canary.path).map(Vec::as_slice).unwrap_or_default();
        let first = of_path.first().is_some_and(|first| std::sync::Arc::ptr_eq(&first.backend, &canary.canary.backend));
        if of_path.len() > 1 && !first {
            let text =
                "it is the second canary of its path: in ingress-nginx only one works; here they are tried by age";
            let finding = Finding::new("several-canaries", canary.path.1.as_ref(), text);
            report.differs.push(finding.remedy("keep one canary of each path until the switch"));
        }
        let Some(main) = review.main_of(canary) else { continue };
        if let Some(other) = review.others_with(main, key).first() {
            let text = format!(
                "its main Service also has the path {other}, whose requests ingress-nginx sends to this canary, too; \
                 here a canary belongs to its own host and path"
            );
            let finding = Finding::new("canary-leaks", canary.path.1.as_ref(), text);
            report.differs.push(finding.remedy("add a canary for that host and path, if that was meant"));
        }
    }
}

/// What ingress-nginx has for each Service rather than for each Ingress, and what Ingresses of one Service say of it
/// differently.
pub(super) fn of_services(
    review: &Review<'_>,
    key: &ObjectKey,
    raw: &Raw,
    linked: &Linked,
    report: &mut IngressReport,
) {
    const SHARED: &[(&str, &str)] =
        &[("session-cookie-name", "the last Ingress of a Service with a cookie decides for all of them")];
    for (name, rule) in SHARED {
        let Some(value) = value_of(raw, name) else { continue };
        let differs = |other: &&ObjectKey| review.raw(other).is_none_or(|other| value_of(other, name) != Some(value));
        let others = review.sharing(key, linked);
        // Who has no cookie gets none either way.
        let counts = |other: &&ObjectKey| {
            *name != "session-cookie-name" || review.raw(other).is_some_and(|raw| value_of(raw, "affinity").is_some())
        };
        let Some(other) = others.iter().copied().filter(differs).find(counts) else { continue };
        let text = format!(
            "ingress {other} has the same Service and says otherwise: in ingress-nginx {rule}; here each Ingress has its own"
        );
        let finding = Finding::new("shared-service", *name, text).value(value);
        report.differs.push(finding.remedy("say the same in both, or use two Services"));
    }
}

/// What the hosts of an Ingress have that freezes or opens ingress-nginx.
pub(super) fn of_hosts(review: &Review<'_>, raw: &Raw, linked: &Linked, report: &mut IngressReport) {
    for rule in &linked.parsed.rules {
        let host = rule.host.to_string();
        if matches!(rule.host, HostPattern::Wildcard(_)) && linked.parsed.annotations.names.www {
            let text = format!("on the wildcard host {host} {FROZEN}");
            let finding = Finding::new("frozen", "from-to-www-redirect", text).value("true");
            report.broken.push(finding.remedy("remove the annotation, or name the hosts one by one"));
        }
        for path in rule.paths.iter().filter(|path| review.has_twin(&rule.host, path)) {
            let text = format!("host {host} has the Prefix path with and without the slash at its end: {FROZEN}");
            let finding = Finding::new("frozen", path.text(), text);
            report.broken.push(finding.remedy("keep the path without the slash"));
        }
        let Some(routes) = host_routes(&review.compiler.table, &rule.host) else { continue };
        let served_plainly = linked.routes_of(&rule.host).iter().any(|linked| {
            matches!(linked.route.policy.https_redirect, HttpsRedirect::Never) && linked.route.id.path.is_some()
        });
        if routes.client_certificates.is_some() && served_plainly && value_of(raw, "auth-tls-secret").is_some() {
            let text = format!("ingress-nginx serves host {host} by plain HTTP to clients without a certificate");
            let finding = Finding::new("fails-open", "auth-tls-secret", text);
            report.broken.push(finding.remedy("remove ssl-redirect: \"false\", or give the host a TLS entry"));
            let text = format!("host {host} asks for a certificate by plain HTTP too, where nobody can show one");
            let finding = Finding::new("plain-http", "auth-tls-secret", text);
            report.differs.push(finding.remedy("have clients use HTTPS"));
        }
    }
}

/// The same Prefix path but for the slash at its end.
pub(super) fn is_twin(one: &PathSpec, other: &PathSpec) -> bool {
    let prefix = |path: &PathSpec| matches!(path.rule, PathRule::Prefix(_));
    let (a, b) = (one.text(), other.text());
    prefix(one) && prefix(other) && a.len() > 1 && a.ends_with('/') && a.strip_suffix('/') == Some(b)
}
