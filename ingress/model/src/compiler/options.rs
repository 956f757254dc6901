//! The `ConfigMap` of ingress-nginx: what holds where an Ingress of its dialect says nothing.

mod connections;
mod snippets;
mod traces;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use landfall_model::{ObjectKey, ObjectRef, Problem};
use regex::Regex;

use super::annotations::affinity::balance;
use super::annotations::auth::{AuthAnnotations, set_header};
use super::annotations::errors::statuses;
use super::annotations::fault::Fault;
use super::annotations::limit::kibibytes;
use super::annotations::respond::Rewrites;
use super::annotations::upstream::{retry, tries, within};
use super::annotations::value::{BodyLimit, body_size, boolean, duration, number, seconds};
use super::annotations::{Read, Risk};
use crate::access::Access;
use crate::backend::Balance;
use crate::policy::snippet::Snippet;
use crate::policy::{
    CodingRule, Compression, ExternalAuth, Forwarding, LogEscape, LogFormat, Logging, ResponseRules, Retry,
    UnknownVariable,
};
use crate::reason;
use crate::table::{ACME_CHALLENGE, Blocked, ConnectionRules, Dialect, StreamPolicy};

pub(crate) use traces::TraceOptions;

use values::{
    error_code, everybody, field, hsts_value, length, level, list, patterns, ranges, redirect_code, responses, types,
};

/// A year, as browsers want it for their preload lists.
const HSTS_MAX_AGE: i64 = 31_536_000;
/// `proxy-body-size`, where nothing is said.
const MAX_BODY: u64 = 1 << 20;

/// What the `ConfigMap` says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub(crate) limits: Limits,
    pub(crate) http_redirect_code: StatusCode,
    /// The answer to a client that asks too fast.
    pub(crate) limit_status: StatusCode,
    /// The answer to a client that asks too much at once.
    pub(crate) crowded_status: StatusCode,
    /// What every answer gets.
    pub(crate) respond: Arc<ResponseRules>,
    access: Option<Arc<Access>>,
    /// `block-cidrs`, which holds where there is no list.
    blocked_ranges: Box<[IpNet]>,
    /// What backends are told of clients.
    pub(crate) forwarding: Arc<Forwarding>,
    /// What holds for connections, before any request.
    connections: ConnectionRules,
    /// What holds for TCP and UDP services.
    pub(crate) streams: Arc<StreamPolicy>,
    /// What is traced, and where that goes.
    pub(crate) traces: TraceOptions,
    /// What is compressed of answers.
    compression: Option<Arc<Compression>>,
    /// Clients that are refused.
    pub(crate) blocked: Option<Arc<Blocked>>,
    /// What is asked of the access log.
    pub(crate) logging: Option<Arc<Logging>>,
    /// Statuses whose answers are replaced, where an Ingress names none.
    pub(crate) errors: Vec<u16>,
    /// Whether annotations may hold snippets.
    pub(crate) allows_snippets: bool,
    /// What holds for every location.
    location_snippet: Option<Arc<Snippet>>,
    /// What holds for every server.
    pub(crate) server_snippet: Option<Arc<Snippet>>,
    /// Why nothing of the dialect of ingress-nginx is served.
    refused: Option<Arc<str>>,
    /// `annotations-risk-level`: the highest risk of an annotation that is served.
    pub(crate) risk: Risk,
    /// Fields of answers that an Ingress may set.
    allowed_fields: Vec<Box<str>>,
    /// Paths of rules whose requests are never sent to HTTPS.
    pub(crate) plain_paths: Vec<Box<str>>,
    /// Paths of rules for which nobody has to log in.
    pub(crate) open_paths: Vec<Box<str>>,
    /// The service that is asked where an Ingress names none.
    pub(crate) global_auth: Option<ExternalAuth>,
}

/// Defaults of annotations; `None` is that of the dialect.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) tries: Option<u32>,
    pub(crate) retry: Option<Retry>,
    pub(crate) retry_within: Option<Duration>,
    /// Whether requests of any method may be sent again.
    pub(crate) any_method: bool,
    pub(crate) max_body: Option<BodyLimit>,
    pub(crate) balance: Option<Balance>,
    pub(crate) ssl_redirect: Option<bool>,
    pub(crate) force_ssl_redirect: Option<bool>,
    pub(crate) relative_redirects: bool,
    pub(crate) port_in_redirects: bool,
    pub(crate) keeps_slash: bool,
    /// How values of backends are rewritten.
    pub(crate) rewrites: Rewrites,
    /// Whether the errors of backends stay as they are.
    pub(crate) only_our_errors: bool,
    pub(crate) via_service: bool,
    /// KiB in a second of an answer's body, and KiB before that counts.
    pub(crate) rate: u64,
    pub(crate) rate_after: u64,
}

/// Those of the Kubernetes dialect, which knows no such `ConfigMap`.
static NONE: Limits = Limits {
    connect_timeout: None,
    read_timeout: None,
    write_timeout: None,
    tries: None,
    retry: None,
    retry_within: None,
    any_method: false,
    max_body: None,
    balance: None,
    ssl_redirect: None,
    force_ssl_redirect: None,
    relative_redirects: false,
    port_in_redirects: false,
    keeps_slash: false,
    rewrites: Rewrites::NONE,
    only_our_errors: false,
    via_service: false,
    rate: 0,
    rate_after: 0,
};

impl Default for Options {
    fn default() -> Self {
        Self::parse(&BTreeMap::new(), &ObjectKey::cluster(""), |_| None).0
    }
}

impl Options {
    /// The limits that hold in a dialect.
    pub(crate) fn of(&self, dialect: Dialect) -> &Limits {
        match dialect {
            Dialect::Kubernetes => &NONE,
            Dialect::IngressNginx => &self.limits,
        }
    }

    /// What backends of a dialect are told of clients.
    pub(crate) fn forwarding_of(&self, dialect: Dialect) -> Option<Arc<Forwarding>> {
        (dialect == Dialect::IngressNginx).then(|| self.forwarding.clone())
    }

    /// Fields of an answer that an Ingress asks for, as far as all of them may be asked for.
    pub(crate) fn allowed(
        &self,
        data: &BTreeMap<String, String>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, (String, &'static str)> {
        let remedy = "add its name to global-allowed-response-headers of the ConfigMap of the controller";
        let allowed = |name: &str| self.allowed_fields.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
        if let Some(name) = data.keys().find(|name| !allowed(name)) {
            return Err((format!("the field {name} may not be set by an Ingress"), remedy));
        }
        Ok(data.iter().filter_map(|(name, value)| field(name, value)).collect())
    }

    /// What runs in every location of a dialect.
    pub(crate) fn location_snippet_of(&self, dialect: Dialect) -> Option<Arc<Snippet>> {
        self.location_snippet.clone().filter(|_| dialect == Dialect::IngressNginx)
    }

    /// Why nothing of a dialect is served.
    pub(crate) fn refused_of(&self, dialect: Dialect) -> Option<Arc<str>> {
        self.refused.clone().filter(|_| dialect == Dialect::IngressNginx)
    }

    /// What is compressed of the answers of a dialect.
    pub(crate) fn compression_of(&self, dialect: Dialect) -> Option<Arc<Compression>> {
        self.compression.clone().filter(|_| dialect == Dialect::IngressNginx)
    }

    /// What holds for connections, before any request.
    pub(crate) fn connections(&self) -> ConnectionRules {
        ConnectionRules { proxies: self.forwarding.proxies.clone(), ..self.connections.clone() }
    }

    /// The source ranges that hold where an Ingress names none.
    ///
    /// As in ingress-nginx, a list of an Ingress takes the place of the one of its kind, and `block-cidrs` holds only
    /// where there is neither.
    pub(crate) fn access_of(&self, dialect: Dialect, own: Option<&Arc<Access>>) -> Option<Arc<Access>> {
        if dialect != Dialect::IngressNginx {
            return own.cloned();
        }
        match (own, &self.access) {
            (Some(own), Some(common)) => {
                let deny = if own.deny.is_empty() { &common.deny } else { &own.deny };
                let allow = own.allow.as_ref().or(common.allow.as_ref());
                Some(Arc::new(Access { deny: deny.clone(), allow: allow.cloned() }))
            }
            (Some(lists), None) | (None, Some(lists)) => Some(lists.clone()),
            (None, None) if self.blocked_ranges.is_empty() => None,
            (None, None) => Some(Arc::new(Access { deny: self.blocked_ranges.clone(), allow: None })),
        }
    }

    /// Reads the data of the `ConfigMap` named `key`.
    ///
    /// `other` gives the data of another one by `NAMESPACE/NAME`.
    #[expect(clippy::too_many_lines, reason = "a line for each key")]
    pub(crate) fn parse<'m>(
        data: &BTreeMap<String, String>,
        key: &ObjectKey,
        mut other: impl FnMut(&str) -> Option<&'m BTreeMap<String, String>>,
    ) -> (Self, Vec<Problem>) {
        let mut options = Self {
            limits: Limits { max_body: Some(BodyLimit(Some(MAX_BODY))), ..Limits::default() },
            http_redirect_code: StatusCode::PERMANENT_REDIRECT,
            limit_status: StatusCode::SERVICE_UNAVAILABLE,
            crowded_status: StatusCode::SERVICE_UNAVAILABLE,
            respond: Arc::default(),
            access: None,
            blocked_ranges: Box::default(),
            global_auth: None,
            forwarding: Arc::default(),
            connections: ConnectionRules::default(),
            streams: Arc::default(),
            traces: traces::Draft::default().finish(),
            compression: None,
            blocked: None,
            logging: None,
            errors: Vec::new(),
            risk: Risk::High,
            allows_snippets: false,
            location_snippet: None,
            server_snippet: None,
            refused: None,
            allowed_fields: Vec::new(),
            plain_paths: vec![ACME_CHALLENGE.into()],
            open_paths: vec![ACME_CHALLENGE.into()],
        };
        let (mut forwarding, mut blocked) = (Forwarding::default(), Blocked::default());
        let (mut streams, mut traces) = (StreamPolicy::default(), traces::Draft::default());
        let mut auth = AuthAnnotations::default();
        let (mut logging, mut log_format, mut escape) = (Logging::default(), None, LogEscape::Default);
        let mut hsts = Some((HSTS_MAX_AGE, true, false));
        let (mut enabled, mut access, mut rules) = (true, Access::default(), ResponseRules::default());
        let rule = |level, min_length| (false, CodingRule { level, min_length, types: types(CODED_TYPES) });
        let (mut gzip, mut brotli, mut disabled) = (rule(1, 256), rule(4, 20), None);
        let (mut problems, mut repeats) = (Vec::new(), true);
        for (name, value) in data {
            let value = value.trim();
            if value.is_empty() || snippets::is_snippet(name) {
                continue;
            }
            let mut read = || -> Result<(), Fault> {
                let limits = &mut options.limits;
                let settings = hsts.get_or_insert((HSTS_MAX_AGE, true, false));
                match name.as_str() {
                    "proxy-connect-timeout" => limits.connect_timeout = Some(seconds(value)?),
                    "proxy-read-timeout" => limits.read_timeout = Some(seconds(value)?),
                    "proxy-send-timeout" => limits.write_timeout = Some(seconds(value)?),
                    "proxy-next-upstream-tries" => limits.tries = Some(tries(value)?),
                    "proxy-next-upstream" => limits.retry = Some(retry(value)?),
                    "proxy-next-upstream-timeout" => limits.retry_within = Some(within(value)?),
                    "retry-non-idempotent" => limits.any_method = boolean(value)?,
                    "proxy-redirect-from" | "proxy-redirect-to" | "proxy-cookie-domain" | "proxy-cookie-path" => {
                        limits.rewrites.read(name, value)?;
                    }
                    "disable-proxy-intercept-errors" => limits.only_our_errors = boolean(value)?,
                    "use-port-in-redirects" => limits.port_in_redirects = boolean(value)?,
                    "preserve-trailing-slash" => limits.keeps_slash = boolean(value)?,
                    "proxy-body-size" => limits.max_body = Some(body_size(value)?),
                    "load-balance" => limits.balance = Some(balance(value)?),
                    "ssl-redirect" => limits.ssl_redirect = Some(boolean(value)?),
                    "force-ssl-redirect" => limits.force_ssl_redirect = Some(boolean(value)?),
                    "http-redirect-code" => options.http_redirect_code = redirect_code(value)?,
                    "limit-rate" => limits.rate = kibibytes(value)?,
                    "limit-rate-after" => limits.rate_after = kibibytes(value)?,
                    "service-upstream" => limits.via_service = boolean(value)?,
                    "relative-redirects" => limits.relative_redirects = boolean(value)?,
                    "no-tls-redirect-locations" => options.plain_paths = list(value),
                    "no-auth-locations" => options.open_paths = list(value),
                    "custom-http-errors" => options.errors = statuses(value)?,
                    "global-allowed-response-headers" => options.allowed_fields = list(value),
                    "allow-snippet-annotations" => options.allows_snippets = boolean(value)?,
                    "annotations-risk-level" => {
                        options.risk = match value {
                            "Low" => Risk::Low,
                            "Medium" => Risk::Medium,
                            "High" => Risk::High,
                            "Critical" => Risk::Critical,
                            _ => return Err(Fault::Value("use Low, Medium, High or Critical")),
                        }
                    }
                    "block-user-agents" => blocked.agents = patterns(value)?,
                    "block-referers" => blocked.referers = patterns(value)?,
                    "disable-access-log" | "disable-http-access-log" => logging.is_off |= boolean(value)?,
                    "skip-access-log-urls" => logging.skipped = list(value).into(),
                    "log-format-escape-json" if boolean(value)? => escape = LogEscape::Json,
                    "log-format-escape-none" if boolean(value)? => escape = LogEscape::None,
                    "log-format-escape-json" | "log-format-escape-none" => {}
                    "log-format-upstream" => {
                        LogFormat::parse(value, escape).map_err(|UnknownVariable(name)| Fault::Variable(name))?;
                        log_format = Some(value);
                    }
                    "use-forwarded-headers" => {
                        forwarding.believes_fields = boolean(value)?;
                        forwarding.believes_address |= forwarding.believes_fields;
                    }
                    "enable-real-ip" => forwarding.believes_address |= boolean(value)?,
                    "proxy-real-ip-cidr" => forwarding.proxies = ranges(value)?,
                    "forwarded-for-header" => {
                        forwarding.address_field =
                            value.parse().map_err(|_| Fault::Value("give the name of a field"))?;
                    }
                    "proxy-stream-timeout" => {
                        let idle = Some(duration(value)?).filter(|idle| !idle.is_zero());
                        streams.idle = idle.ok_or(Fault::Value("give a time from 1s up"))?;
                    }
                    "proxy-stream-next-upstream" => repeats = boolean(value)?,
                    "proxy-stream-next-upstream-tries" => streams.tries = tries(value)?,
                    "proxy-stream-next-upstream-timeout" => {
                        streams.within = Some(duration(value)?).filter(|within| !within.is_zero());
                    }
                    "proxy-stream-responses" => streams.responses = responses(value)?,
                    "disable-stream-access-log" => streams.is_unlogged = boolean(value)?,
                    "use-gzip" => gzip.0 = boolean(value)?,
                    "gzip-level" => gzip.1.level = level(value, 9)?,
                    "gzip-min-length" => gzip.1.min_length = length(value)?,
                    "gzip-types" => gzip.1.types = types(value),
                    "gzip-disable" => {
                        let fault = |_| Fault::Value("give a regular expression");
                        disabled = Some(Regex::new(&format!("(?i){value}")).map_err(fault)?);
                    }
                    "enable-brotli" => brotli.0 = boolean(value)?,
                    "brotli-level" => brotli.1.level = level(value, 11)?,
                    "brotli-min-length" => brotli.1.min_length = length(value)?,
                    "brotli-types" => brotli.1.types = types(value),
                    "compute-full-forwarded-for" => forwarding.full_list = boolean(value)?,
                    "proxy-add-original-uri-header" => forwarding.original_uri = boolean(value)?,
                    "generate-request-id" => forwarding.request_id = boolean(value)?,
                    "ignore-invalid-headers" => forwarding.dots = !boolean(value)?,
                    "enable-underscores-in-headers" => forwarding.underscores = boolean(value)?,
                    "proxy-set-headers" => {
                        let fields = other(value).ok_or(Fault::Value(CONFIG_MAP))?;
                        forwarding.set = fields.iter().filter_map(|(name, value)| set_header(name, value)).collect();
                    }
                    "add-headers" => {
                        let fields = other(value).ok_or(Fault::Value(CONFIG_MAP))?;
                        rules.set = fields.iter().filter_map(|(name, value)| field(name, value)).collect();
                    }
                    "limit-req-status-code" => options.limit_status = error_code(value)?,
                    "limit-conn-status-code" => options.crowded_status = error_code(value)?,
                    "hsts" => enabled = boolean(value)?,
                    "hsts-max-age" => settings.0 = number(value)?,
                    "hsts-include-subdomains" => settings.1 = boolean(value)?,
                    "hsts-preload" => settings.2 = boolean(value)?,
                    "hide-headers" => {
                        rules.hide = value.split(',').filter_map(|name| name.trim().parse().ok()).collect();
                    }
                    // A list that can't be read lets nobody in.
                    "whitelist-source-range" => access.allow = Some(ranges(value).unwrap_or_default()),
                    "denylist-source-range" => access.deny = ranges(value).unwrap_or_else(|_| everybody()),
                    "block-cidrs" => options.blocked_ranges = ranges(value).unwrap_or_else(|_| everybody()),
                    name if traces.read(name, value)? => {}
                    _ => {
                        let mut read = connections::read(&mut options.connections, name, value)?;
                        if let (Read::Foreign, Some(name)) = (&read, name.strip_prefix("global-")) {
                            read = auth.read(name, value)?;
                        }
                        if let Read::Foreign = read {
                            return Err(Fault::Unknown);
                        }
                    }
                }
                Ok(())
            };
            if let Err(fault) = read() {
                problems.push(problem(fault, key, name, value));
            }
        }
        // A PROXY header knows the address, and fields don't count beside it.
        forwarding.believes_address &= !options.connections.proxy_protocol;
        if !repeats {
            streams.tries = 1;
        }
        options.streams = Arc::new(streams);
        options.traces = traces.finish();
        if options.traces.enabled && options.traces.collector.is_none() {
            let fault = Fault::Value("set otlp-collector-host, too: nothing is traced without it");
            problems.push(problem(fault, key, "enable-opentelemetry", "true"));
        }
        options.forwarding = Arc::new(forwarding);
        let (gzip, brotli) = (gzip.0.then_some(gzip.1), brotli.0.then_some(brotli.1));
        if gzip.is_some() || brotli.is_some() {
            options.compression = Some(Arc::new(Compression { gzip, brotli, disabled }));
        }
        options.blocked = (blocked != Blocked::default()).then(|| Arc::new(blocked));
        // The escape is known when all keys are.
        logging.format = log_format.and_then(|text| LogFormat::parse(text, escape).ok());
        options.logging = (logging != Logging::default()).then(|| Arc::new(logging));
        options.global_auth = auth.external(Box::default());
        problems.extend(options.read_snippets(data, key));
        rules.hsts = hsts.filter(|_| enabled).and_then(|settings| hsts_value(settings).ok());
        options.respond = Arc::new(rules);
        options.access = (access != Access::default()).then(|| Arc::new(access));
        (options, problems)
    }
}

/// `gzip-types` and `brotli-types`, where nothing is said.
const CODED_TYPES: &str = "application/atom+xml application/javascript application/x-javascript application/json \
     application/rss+xml application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json \
     application/xhtml+xml application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain \
     text/x-component";

const CONFIG_MAP: &str = "give NAMESPACE/NAME of a ConfigMap that exists";

fn problem(fault: Fault, key: &ObjectKey, name: &str, value: &str) -> Problem {
    let object = ObjectRef::new("ConfigMap", key.clone());
    let (cause, remedy) = match fault {
        Fault::Value(remedy) => ("the value can't be used, so the default holds".to_owned(), remedy),
        Fault::Range(entry) => (
            format!("{entry:?} is neither a network nor an address, so the list is not used"),
            "write networks or addresses separated by commas",
        ),
        Fault::Variable(name) => (
            format!("${name} is no variable that is known here, so the log keeps its own form"),
            "use the variables that docs/ingress.md lists",
        ),
        _ => ("this key has no effect here".to_owned(), "remove it to silence this warning"),
    };
    Problem::new(object, reason::INVALID_CONFIG_MAP, cause).at(format!("data[{name}]"), value).remedy(remedy).warning()
}
