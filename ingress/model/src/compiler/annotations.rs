//! The annotations `nginx.ingress.kubernetes.io/*`, read once into a typed plan for the routes of an Ingress.
//!
//! Each family reads its own names; [`KNOWN`] is the list of all. An annotation that is not served is reported and has
//! no effect, with one exception: what restricts access fails closed, and makes the routes answer 503.

pub(crate) mod affinity;
pub(crate) mod auth;
mod canary;
pub(crate) mod client_certificates;
mod cors;
pub(crate) mod errors;
pub(crate) mod fault;
mod known;
pub(crate) mod limit;
pub(crate) mod names;
mod redirect;
pub(crate) mod respond;
mod rewrite;
mod risk;
pub(crate) mod snippets;
pub(crate) mod traces;
pub(crate) mod upstream;
pub(crate) mod upstream_tls;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ipnet::IpNet;
use landfall_model::{ObjectRef, Problem};

use super::ingress::PathSpec;
use super::options::Options;
use crate::access::{self, Access};
use crate::backend::{Balance, Protocol};
use crate::policy::{CanaryRule, CookieAffinity, HashBy, HttpsRedirect, RoutePolicy, Template};
use crate::table::Dialect;

use affinity::Affinities;
use auth::AuthAnnotations;
use canary::Canaries;
use client_certificates::ClientCertificateAnnotations;
use cors::CorsAnnotations;
use errors::ErrorAnnotations;
use fault::Fault;
use limit::Limits;
use names::NameAnnotations;
use redirect::Redirects;
use respond::Responses;
use rewrite::Rewrites;
use snippets::SnippetAnnotations;
use traces::TraceAnnotations;
use upstream::UpstreamAnnotations;
use upstream_tls::UpstreamTlsAnnotations;

pub use known::{KNOWN, Support};
pub(crate) use risk::Risk;

pub(crate) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Source ranges: those that are allowed, the same under its older name, and those that are denied.
const ALLOW: &str = "allowlist-source-range";
const ALLOW_FORMERLY: &str = "whitelist-source-range";
const DENY: &str = "denylist-source-range";

/// When a plain request is sent to HTTPS, as annotations say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RedirectRule {
    /// `ssl-redirect: "false"`.
    Never,
    /// `ssl-redirect: "true"`: where a TLS entry covers the host.
    WhenCovered,
    /// `force-ssl-redirect: "true"`.
    Always,
}

/// What a family makes of an annotation.
pub(crate) enum Read {
    /// It is one of this family, and taken in.
    Taken,
    /// It is none of this family.
    Foreign,
}

/// What the annotations of an Ingress ask for.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Annotations {
    upstream: UpstreamAnnotations,
    redirect: Redirects,
    rewrite: Rewrites,
    cors: CorsAnnotations,
    pub(crate) respond: Responses,
    pub(crate) auth: AuthAnnotations,
    pub(crate) client_certificates: ClientCertificateAnnotations,
    pub(crate) upstream_tls: UpstreamTlsAnnotations,
    /// Which clients are allowed and denied.
    access: Option<Arc<Access>>,
    /// The annotation with the highest risk, and that risk.
    pub(crate) riskiest: Option<(Risk, Box<str>)>,
    /// Why the routes must answer 503.
    pub(crate) refused: Option<Arc<str>>,
    affinity: Affinities,
    limit: Limits,
    canary: Canaries,
    pub(crate) errors: ErrorAnnotations,
    pub(crate) names: NameAnnotations,
    pub(crate) snippets: SnippetAnnotations,
    traces: TraceAnnotations,
}

/// Most Ingresses have no annotation of interest and share this.
static PLAIN: LazyLock<Arc<Annotations>> = LazyLock::new(Arc::default);

impl Annotations {
    /// The annotations as they are held.
    pub(crate) fn shared(self) -> Arc<Self> {
        if self == **PLAIN { PLAIN.clone() } else { Arc::new(self) }
    }

    /// How endpoints are chosen, as far as the Ingress says something of it.
    /// The cookie that keeps clients at their endpoints.
    pub(crate) fn cookie(&self) -> Option<Arc<CookieAffinity>> {
        self.affinity.cookie()
    }

    pub(crate) fn preference(&self) -> (Option<Arc<HashBy>>, Option<Balance>) {
        (self.affinity.hash_by(), self.affinity.balance())
    }

    /// Overrides the `appProtocol` of the Service port.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.upstream.protocol
    }

    /// Whether the address of a Service is asked rather than its endpoints, if that is said.
    pub(crate) fn via_service(&self) -> Option<bool> {
        self.upstream.via_service
    }

    /// Reads the annotations of `object`.
    pub(crate) fn parse(all: Option<&BTreeMap<String, String>>, object: &ObjectRef) -> (Self, Vec<Problem>) {
        let mut parsed = Self::default();
        let mut problems = Vec::new();
        let mut access = Access::default();
        let has_allow = |name: &str| all.is_some_and(|all| all.get(name).is_some_and(|value| !value.trim().is_empty()));
        let renamed = has_allow(&format!("{PREFIX}{ALLOW}"));
        let mut snippets = Vec::new();
        for (key, written) in all.into_iter().flatten() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            // An empty value counts as absent in ingress-nginx.
            let value = written.trim();
            if value.is_empty() {
                parsed.redirect.see_empty(name);
                continue;
            }
            let risk = risk::risk_of(name);
            if risk > parsed.riskiest.as_ref().map_or(Risk::Low, |(risk, _)| *risk) {
                parsed.riskiest = Some((risk, name.into()));
            }
            if let Some(kind) = snippets::kind_of(name) {
                // Its places are those of the text as it was written.
                snippets.push((kind, written.as_str()));
                continue;
            }
            let read = match name {
                ALLOW => parsed.ranges(name, value).map(|ranges| access.allow = Some(ranges)),
                // Where both spellings are there, the newer one holds.
                ALLOW_FORMERLY if renamed => Err(Fault::Overridden),
                ALLOW_FORMERLY => parsed.ranges(name, value).map(|ranges| access.allow = Some(ranges)),
                DENY => parsed.ranges(name, value).map(|ranges| access.deny = ranges),
                _ => parsed.read(name, value),
            };
            if let Err(fault) = read {
                problems.push(fault.problem(object, key, value));
            }
        }
        parsed.snippets = SnippetAnnotations::read(&snippets);
        parsed.access = (access != Access::default()).then(|| Arc::new(access));
        parsed.cors.finish();
        parsed.names.www &= !parsed.redirect.is_ignored();
        let together = [ClientCertificateAnnotations::finish, UpstreamTlsAnnotations::finish];
        for (name, fault) in together.into_iter().filter_map(|finish| finish(&mut parsed)) {
            let key = format!("{PREFIX}{name}");
            let value = all.and_then(|all| all.get(&key)).map(|value| value.trim()).unwrap_or_default();
            problems.push(fault.problem(object, &key, value));
        }
        (parsed, problems)
    }

    /// A list of source ranges. One that can't be read lets nobody in, since it can't be known who is meant.
    fn ranges(&mut self, name: &str, value: &str) -> Result<Box<[IpNet]>, Fault> {
        access::ranges(value).map_err(|entry| {
            let entry = entry.to_owned();
            self.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} can't be read").into());
            Fault::Range(entry)
        })
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let families = [
            UpstreamAnnotations::read_in as fn(&mut Self, &str, &str) -> Result<Read, Fault>,
            Redirects::read_in,
            Rewrites::read_in,
            CorsAnnotations::read_in,
            Responses::read_in,
            AuthAnnotations::read_in,
            Affinities::read_in,
            Limits::read_in,
            Canaries::read_in,
            ErrorAnnotations::read_in,
            NameAnnotations::read_in,
            ClientCertificateAnnotations::read_in,
            UpstreamTlsAnnotations::read_in,
            TraceAnnotations::read_in,
        ];
        for read in families {
            if let Read::Taken = read(self, name, value)? {
                return Ok(());
            }
        }
        match known::support(name) {
            Some(Support::Served) | None => Err(Fault::Unknown),
            Some(Support::Accepted(why)) => Err(Fault::Accepted(why)),
            Some(Support::Refused(why)) => {
                self.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} is refused: {why}").into());
                Err(Fault::Refused(why))
            }
        }
    }

    /// Whether it names source ranges.
    pub(crate) fn has_ranges(&self) -> bool {
        self.access.is_some()
    }

    /// Whether the Ingress is a canary: its backends get some of the requests for the same paths of another one.
    pub(crate) fn is_canary(&self) -> bool {
        self.canary.enabled
    }

    /// Which requests a canary gets.
    pub(crate) fn canary_rule(&self) -> Arc<CanaryRule> {
        self.canary.rule()
    }

    /// Whether paths of this Ingress whose meaning is left to us are regular expressions: by `use-regex`, or since a
    /// rewrite names their groups.
    pub(crate) fn use_regex(&self) -> bool {
        self.rewrite.use_regex || self.rewrite.has_groups()
    }

    /// Whether an Ingress with these annotations and paths makes the paths of its hosts regular expressions in
    /// ingress-nginx, which any rewrite of a path to another one does.
    pub(crate) fn makes_regex(&self, paths: &[PathSpec]) -> bool {
        self.rewrite.makes_regex(paths)
    }

    /// `app-root`: where a client is sent that asks for `/`.
    pub(crate) fn app_root(&self) -> Option<&Arc<Template>> {
        self.redirect.app_root.as_ref()
    }

    /// When a plain request is sent to HTTPS. ingress-nginx redirects by default (`ssl-redirect` of its `ConfigMap`
    /// is true); the Kubernetes specification knows nothing of the kind.
    pub(crate) fn redirect(&self, dialect: Dialect, options: &Options) -> RedirectRule {
        self.redirect.rule(dialect, options)
    }

    /// The redirect to HTTPS in the form of a dialect.
    pub(crate) fn https_redirect(&self, dialect: Dialect, options: &Options) -> HttpsRedirect {
        match dialect {
            Dialect::Kubernetes => HttpsRedirect::Always,
            Dialect::IngressNginx => HttpsRedirect::IngressNginx {
                status: options.http_redirect_code,
                keeps_slash: self.redirect.keeps_slash.unwrap_or(options.of(dialect).keeps_slash),
                with_port: self.redirect.with_port.unwrap_or(options.of(dialect).port_in_redirects),
                forced: matches!(self.redirect(dialect, options), RedirectRule::Always),
            },
        }
    }

    /// The policy of a route to `path`, or to no path of a rule. ingress-nginx ends an idle WebSocket after
    /// `proxy-read-timeout`, set or not; here only where it is set.
    pub(crate) fn policy(
        &self,
        dialect: Dialect,
        options: &Options,
        https_redirect: HttpsRedirect,
        path: Option<&PathSpec>,
        zone: u64,
    ) -> RoutePolicy {
        let mut policy = RoutePolicy { manner: dialect.manner(), https_redirect, ..RoutePolicy::default() };
        self.upstream.apply(dialect, options, &mut policy);
        policy.access = options.access_of(dialect, self.access.as_ref());
        policy.redirect = self.redirect.redirect();
        // An annotation does not take back what the ConfigMap says of all.
        policy.relative_redirects = self.redirect.is_relative() || options.of(dialect).relative_redirects;
        policy.cors = self.cors.cors();
        policy.rewrite = self.rewrite.rewrite(path);
        policy.limit = self.limit.limit(zone, options);
        policy.pace = self.limit.pace(dialect, options);
        // With one address for all endpoints there is nothing to stay at.
        let via_service = self.via_service().unwrap_or(options.of(dialect).via_service);
        policy.affinity = self.affinity.cookie().filter(|_| dialect == Dialect::Kubernetes || !via_service);
        // In the dialect of ingress-nginx one Ingress decides for all of a Service.
        if dialect == Dialect::Kubernetes {
            (policy.hash_by, policy.balance) = (self.affinity.hash_by(), self.affinity.balance());
        }
        policy.forwarding = options.forwarding_of(dialect);
        policy.is_unlogged = self.respond.is_unlogged;
        policy.tracing = self.traces.tracing(dialect, options);
        policy.compression = options.compression_of(dialect);
        policy.respond = self.respond.rules(dialect, options);
        policy.snippet = options.location_snippet_of(dialect);
        policy
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use landfall_model::ObjectKey;

    use super::*;
    use crate::reason;

    fn parse(name: &str, value: &str) -> (Annotations, Vec<Problem>) {
        let all = BTreeMap::from([(format!("{PREFIX}{name}"), value.to_owned())]);
        Annotations::parse(Some(&all), &ObjectRef::new("Ingress", ObjectKey::new("shop", "web")))
    }

    #[test]
    fn values_are_read_as_ingress_nginx_reads_them() {
        let policy = |name, value| {
            let (annotations, problems) = parse(name, value);
            assert_eq!(problems, [], "{name}: {value}");
            annotations.policy(Dialect::Kubernetes, &Options::default(), HttpsRedirect::Never, None, 0)
        };
        assert_eq!(policy("proxy-connect-timeout", "7").connect_timeout, Duration::from_secs(7));
        assert_eq!(policy("proxy-read-timeout", "3600").read_timeout, Duration::from_hours(1));
        assert_eq!(policy("proxy-send-timeout", " 10 ").write_timeout, Duration::from_secs(10));
        for (value, bytes) in
            [("0", None), ("8m", Some(8 << 20)), ("1k", Some(1024)), ("2G", Some(2 << 30)), ("5", Some(5))]
        {
            assert_eq!(policy("proxy-body-size", value).max_body, bytes, "{value}");
        }
        assert_eq!(policy("proxy-next-upstream-tries", "1").tries, 1);
        assert_eq!(policy("proxy-next-upstream-tries", "0").tries, upstream::MAXIMUM);
        assert_eq!(parse("backend-protocol", "grpc").0.protocol(), Some(Protocol::H2c));
        assert_eq!(parse("backend-protocol", "HTTPS").0.protocol(), Some(Protocol::Https));
        assert_eq!(policy("proxy-read-timeout", "").read_timeout, Duration::from_mins(1));
    }

    #[test]
    fn an_upgraded_connection_may_be_idle_for_an_hour_unless_ingress_nginx_decides() {
        let idle = |value, dialect| {
            let annotations = parse("proxy-read-timeout", value).0;
            annotations.policy(dialect, &Options::default(), HttpsRedirect::Never, None, 0).upgrade_idle.as_secs()
        };
        assert_eq!(idle("", Dialect::Kubernetes), 3600);
        assert_eq!(idle("", Dialect::IngressNginx), 60);
        assert_eq!(idle("120", Dialect::Kubernetes), 120);
        assert_eq!(idle("120", Dialect::IngressNginx), 120);
    }

    #[test]
    fn what_is_said_to_be_served_is_read() {
        for (name, _) in KNOWN.iter().filter(|(_, support)| *support == Support::Served) {
            let (_, problems) = parse(name, "?");
            assert!(problems.iter().all(|problem| problem.reason != reason::UNSUPPORTED_ANNOTATION), "{name}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_are_named() {
        let cases = [
            ("proxy-read-timeout", "30s"),
            ("proxy-read-timeout", "0"),
            ("proxy-body-size", "8mb"),
            ("proxy-body-size", "99999999999g"),
            ("proxy-body-size", "m"),
            ("backend-protocol", "SPDY"),
            ("ssl-redirect", "yes"),
            ("proxy-next-upstream-tries", "-1"),
        ];
        for (name, value) in cases {
            let (_, problems) = parse(name, value);
            let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
            assert_eq!((problem.reason, &*problem.value), (reason::INVALID_ANNOTATION, value));
            assert_eq!(problem.field, format!("metadata.annotations[{PREFIX}{name}]"));
        }
    }

    #[test]
    fn what_decides_who_may_ask_fails_closed() {
        for (name, value) in [
            ("auth-type", "digest"),
            ("auth-url", "no url"),
            ("auth-method", "get"),
            ("auth-secret-type", "other"),
            ("auth-response-headers", "a header;"),
            ("auth-cache-duration", "xyz"),
            ("whitelist-source-range", "abc"),
            ("limit-rps", "abc"),
            ("limit-allowlist", "abc"),
            ("stream-snippet", "server { }"),
        ] {
            let (annotations, problems) = parse(name, value);
            assert!(annotations.refused.is_some(), "{name}");
            assert_eq!(problems.len(), 1, "{name}");
        }
        for (name, value) in [("no-such-name", "x"), ("auth-url", ""), ("auth-signin", "a b"), ("satisfy", "some")] {
            assert!(parse(name, value).0.refused.is_none(), "{name}");
        }
    }

    #[test]
    fn the_dialect_decides_about_redirects_where_the_annotations_do_not() {
        let rule = |name, value, dialect| parse(name, value).0.redirect(dialect, &Options::default());
        let (nginx, kubernetes) = (Dialect::IngressNginx, Dialect::Kubernetes);
        assert_eq!(rule("canary", "false", nginx), RedirectRule::WhenCovered);
        assert_eq!(rule("canary", "false", kubernetes), RedirectRule::Never);
        assert_eq!(rule("ssl-redirect", "false", nginx), RedirectRule::Never);
        assert_eq!(rule("ssl-redirect", "true", kubernetes), RedirectRule::WhenCovered);
        assert_eq!(rule("force-ssl-redirect", "true", kubernetes), RedirectRule::Always);
    }
}
