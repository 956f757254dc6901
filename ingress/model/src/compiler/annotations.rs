//! The annotations `nginx.ingress.kubernetes.io/*`, read once into a typed plan for the routes of an Ingress.
//!
//! An annotation that is not implemented is reported and has no effect, with two exceptions that fail closed: what
//! restricts access makes the routes answer 503, and a canary takes no traffic at all.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;
use landfall_model::{ObjectRef, Problem};

use crate::access::{self, Access};
use crate::backend::Protocol;
use crate::reason;
use crate::table::{Dialect, HttpsRedirect, RoutePolicy};

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Source ranges: those that are allowed, the same under its older name, and those that are denied.
const ALLOW: &str = "allowlist-source-range";
const ALLOW_FORMERLY: &str = "whitelist-source-range";
const DENY: &str = "denylist-source-range";

/// Annotations that let only some requests through. Serving such an Ingress without them would open what its owner
/// has closed.
const RESTRICTING: &[&str] = &["auth-secret", "auth-tls-secret", "auth-type", "auth-url", "satisfy"];

/// "0 = unlimited" of `proxy-next-upstream-tries`, bounded because each try is a connection.
const MOST_TRIES: u32 = 32;

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

/// The largest request body in bytes; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Debug)]
struct BodyLimit(Option<u64>);

/// What the annotations of an Ingress ask for.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Annotations {
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    tries: Option<u32>,
    max_body: Option<BodyLimit>,
    ssl_redirect: Option<bool>,
    force_ssl_redirect: Option<bool>,
    /// Overrides the `appProtocol` of the Service port.
    pub(crate) protocol: Option<Protocol>,
    /// Which clients are allowed and denied.
    access: Option<Arc<Access>>,
    /// Why the routes must answer 503.
    pub(crate) refused: Option<Arc<str>>,
    /// A canary has routes only beside those of another Ingress.
    pub(crate) canary: bool,
}

/// Most Ingresses have no annotation of interest and share this.
static PLAIN: LazyLock<Arc<Annotations>> = LazyLock::new(Arc::default);

impl Annotations {
    /// The annotations as they are held.
    pub(crate) fn shared(self) -> Arc<Self> {
        if self == **PLAIN { PLAIN.clone() } else { Arc::new(self) }
    }

    /// Reads the annotations of `object`.
    pub(crate) fn parse(all: Option<&BTreeMap<String, String>>, object: &ObjectRef) -> (Self, Vec<Problem>) {
        let mut parsed = Self::default();
        let mut problems = Vec::new();
        let mut access = Access::default();
        let has_allow = |name: &str| all.is_some_and(|all| all.get(name).is_some_and(|value| !value.trim().is_empty()));
        let renamed = has_allow(&format!("{PREFIX}{ALLOW}"));
        for (key, value) in all.into_iter().flatten() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            // An empty value counts as absent in ingress-nginx.
            let value = value.trim();
            if value.is_empty() {
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
        parsed.access = (access != Access::default()).then(|| Arc::new(access));
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
        match name {
            "proxy-connect-timeout" => self.connect_timeout = Some(seconds(value)?),
            "proxy-read-timeout" => self.read_timeout = Some(seconds(value)?),
            "proxy-send-timeout" => self.write_timeout = Some(seconds(value)?),
            "proxy-body-size" => self.max_body = Some(body_size(value)?),
            "proxy-next-upstream-tries" => self.tries = Some(tries(value)?),
            "backend-protocol" => self.protocol = Some(protocol(value)?),
            "ssl-redirect" => self.ssl_redirect = Some(boolean(value)?),
            "force-ssl-redirect" => self.force_ssl_redirect = Some(boolean(value)?),
            "canary" if boolean(value)? => {
                self.canary = true;
                return Err(Fault::Canary);
            }
            "canary" => {}
            _ if RESTRICTING.contains(&name) => {
                self.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} is not supported").into());
                return Err(Fault::Restricting);
            }
            _ => return Err(Fault::Unknown),
        }
        Ok(())
    }

    /// When a plain request is sent to HTTPS. ingress-nginx redirects by default (`ssl-redirect` of its `ConfigMap`
    /// is true); the Kubernetes specification knows nothing of the kind.
    pub(crate) fn redirect(&self, dialect: Dialect) -> RedirectRule {
        match (self.force_ssl_redirect, self.ssl_redirect, dialect) {
            (Some(true), _, _) => RedirectRule::Always,
            (_, Some(true), _) | (_, None, Dialect::IngressNginx) => RedirectRule::WhenCovered,
            (_, Some(false), _) | (_, None, Dialect::Kubernetes) => RedirectRule::Never,
        }
    }

    /// The policy of a route. ingress-nginx ends an idle WebSocket after `proxy-read-timeout`, set or not; here only
    /// where it is set.
    pub(crate) fn policy(&self, dialect: Dialect, https_redirect: HttpsRedirect) -> RoutePolicy {
        let default = RoutePolicy::default();
        let read_timeout = self.read_timeout.unwrap_or(default.read_timeout);
        RoutePolicy {
            connect_timeout: self.connect_timeout.unwrap_or(default.connect_timeout),
            read_timeout,
            upgrade_idle: match dialect {
                Dialect::Kubernetes => self.read_timeout.unwrap_or(default.upgrade_idle),
                Dialect::IngressNginx => read_timeout,
            },
            write_timeout: self.write_timeout.unwrap_or(default.write_timeout),
            tries: self.tries.unwrap_or(default.tries),
            max_body: self.max_body.map_or(default.max_body, |limit| limit.0),
            https_redirect,
            access: self.access.clone(),
        }
    }
}

/// What is wrong with one annotation.
enum Fault {
    Unknown,
    Restricting,
    Canary,
    Value(&'static str),
    /// An entry of a list of source ranges that is none.
    Range(String),
    /// The older spelling of an annotation whose newer one is there.
    Overridden,
}

impl Fault {
    fn problem(self, object: &ObjectRef, key: &str, value: &str) -> Problem {
        let unsupported = |cause: &str| Problem::new(object.clone(), reason::UNSUPPORTED_ANNOTATION, cause);
        let problem = match self {
            Self::Unknown => unsupported("this annotation is not supported and has no effect")
                .remedy("remove the annotation to silence this warning")
                .warning(),
            Self::Restricting => unsupported(
                "this annotation restricts access and is not supported, so the routes of this Ingress answer 503",
            )
            .remedy("remove it once access is restricted in another way"),
            Self::Canary => unsupported("canaries are not supported, so the rules of this Ingress take no traffic")
                .remedy("remove the Ingress, or the annotation to serve it as an ordinary one")
                .warning(),
            Self::Range(entry) => {
                let cause =
                    format!("{entry:?} is neither a network nor an address, so the routes of this Ingress answer 503");
                Problem::new(object.clone(), reason::INVALID_ANNOTATION, cause)
                    .remedy("write networks or addresses separated by commas, such as 10.0.0.0/8,2001:db8::1")
            }
            Self::Overridden => {
                let cause = format!("{PREFIX}{ALLOW} is set too and holds, so this older spelling has no effect");
                Problem::new(object.clone(), reason::INVALID_ANNOTATION, cause).remedy("remove it").warning()
            }
            Self::Value(remedy) => {
                let cause = "the value can't be used, so the default holds";
                Problem::new(object.clone(), reason::INVALID_ANNOTATION, cause).remedy(remedy).warning()
            }
        };
        problem.at(format!("metadata.annotations[{key}]"), value)
    }
}

/// Whole seconds. 0 would refuse every request, and nobody means that.
fn seconds(value: &str) -> Result<Duration, Fault> {
    match value.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err(Fault::Value("give whole seconds from 1 up, without a unit")),
    }
}

/// A number with `b`, `k`, `m` or `g` behind it; 0 is unlimited.
fn body_size(value: &str) -> Result<BodyLimit, Fault> {
    let fault = || Fault::Value("give a number of bytes, with k, m or g behind it for more, or 0 for no limit");
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "" | "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(fault()),
    };
    let number: u64 = digits.parse().map_err(|_| fault())?;
    let bytes = number.checked_mul(unit).ok_or_else(fault)?;
    Ok(BodyLimit((bytes > 0).then_some(bytes)))
}

fn tries(value: &str) -> Result<u32, Fault> {
    match value.parse::<u32>() {
        Ok(0) => Ok(MOST_TRIES),
        Ok(tries) => Ok(tries.min(MOST_TRIES)),
        Err(_) => Err(Fault::Value("give the number of attempts in all, or 0 for as many as there are endpoints")),
    }
}

fn protocol(value: &str) -> Result<Protocol, Fault> {
    match value.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(Protocol::Http),
        "HTTPS" | "GRPCS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::H2c),
        _ => Err(Fault::Value("use HTTP, HTTPS, GRPC or GRPCS")),
    }
}

/// What Go's `strconv.ParseBool` takes, since that is what ingress-nginx takes.
fn boolean(value: &str) -> Result<bool, Fault> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Fault::Value("use \"true\" or \"false\"")),
    }
}

#[cfg(test)]
mod tests {
    use landfall_model::ObjectKey;

    use super::*;

    fn parse(name: &str, value: &str) -> (Annotations, Vec<Problem>) {
        let all = BTreeMap::from([(format!("{PREFIX}{name}"), value.to_owned())]);
        Annotations::parse(Some(&all), &ObjectRef::new("Ingress", ObjectKey::new("shop", "web")))
    }

    #[test]
    fn values_are_read_as_ingress_nginx_reads_them() {
        let policy = |name, value| {
            let (annotations, problems) = parse(name, value);
            assert_eq!(problems, [], "{name}: {value}");
            annotations.policy(Dialect::Kubernetes, HttpsRedirect::Never)
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
        assert_eq!(policy("proxy-next-upstream-tries", "0").tries, MOST_TRIES);
        assert_eq!(parse("backend-protocol", "grpc").0.protocol, Some(Protocol::H2c));
        assert_eq!(parse("backend-protocol", "HTTPS").0.protocol, Some(Protocol::Https));
        assert_eq!(policy("proxy-read-timeout", "").read_timeout, Duration::from_mins(1));
    }

    #[test]
    fn an_upgraded_connection_may_be_idle_for_an_hour_unless_ingress_nginx_decides() {
        let idle = |value, dialect| {
            parse("proxy-read-timeout", value).0.policy(dialect, HttpsRedirect::Never).upgrade_idle.as_secs()
        };
        assert_eq!(idle("", Dialect::Kubernetes), 3600);
        assert_eq!(idle("", Dialect::IngressNginx), 60);
        assert_eq!(idle("120", Dialect::Kubernetes), 120);
        assert_eq!(idle("120", Dialect::IngressNginx), 120);
    }

    #[test]
    fn values_that_cannot_be_used_are_named() {
        let cases = [
            ("proxy-read-timeout", "30s"),
            ("proxy-read-timeout", "0"),
            ("proxy-body-size", "8mb"),
            ("proxy-body-size", "99999999999g"),
            ("proxy-body-size", "m"),
            ("backend-protocol", "FCGI"),
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
    fn what_restricts_access_fails_closed() {
        for name in RESTRICTING {
            let (annotations, problems) = parse(name, "10.0.0.0/8");
            assert!(annotations.refused.is_some(), "{name}");
            assert_eq!(problems.len(), 1);
        }
        assert!(parse("custom-headers", "x").0.refused.is_none());
        assert!(parse("auth-url", "").0.refused.is_none());
    }

    #[test]
    fn the_dialect_decides_about_redirects_where_the_annotations_do_not() {
        let rule = |name, value, dialect| parse(name, value).0.redirect(dialect);
        let (nginx, kubernetes) = (Dialect::IngressNginx, Dialect::Kubernetes);
        assert_eq!(rule("canary", "false", nginx), RedirectRule::WhenCovered);
        assert_eq!(rule("canary", "false", kubernetes), RedirectRule::Never);
        assert_eq!(rule("ssl-redirect", "false", nginx), RedirectRule::Never);
        assert_eq!(rule("ssl-redirect", "true", kubernetes), RedirectRule::WhenCovered);
        assert_eq!(rule("force-ssl-redirect", "true", kubernetes), RedirectRule::Always);
    }
}
