//! The steps that a request passes, in their order, which is that of ingress-nginx: client certificate, size of the
//! body, missing slash, preflight, redirect, HTTPS, availability, access, rewrite. The first one that answers ends it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, TE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::ask::{Missing, Then};
use super::choice::giver;
use super::fields::{X_CODE, X_FORWARDED_PREFIX};
use super::instead::{is_replaced, name_backend};
use super::page::Answer;
use super::request::{Request, Way};
use super::snippets::{Run, change_input};
use super::{Ask, Decision, Forward, Stage, client_certificate};
use crate::backend::{Backend, BackendState, Protocol};
use crate::fields::{Fields, HeaderEdits};
use crate::path::CanonicalPath;
use crate::policy::snippet::Verdict;
use crate::policy::{Auth, ClientCertificates, Facts, Permit, RewriteTarget, TooMuch, decoded};
use crate::table::{Action, HostLevels, Match, Route, Table};

/// Why there is a 404.
pub(super) const NO_RULE: &str = "no Ingress has a rule for this host and path";

/// What the steps of a route come to.
enum Passed {
    Decided(Decision),
    /// A snippet has rewritten the path, for which something else is to be found.
    Seeks,
}

/// What a step says: an answer ends the passage.
pub(super) type Step<T = ()> = Result<T, Answer>;

impl Request<'_> {
    /// Passes all steps.
    pub(super) fn pass(&self, table: &Table) -> Decision {
        self.live.begin(Stage::Blocked);
        if table.blocked.as_ref().is_some_and(|blocked| blocked.blocks(self.facts.head.headers)) {
            return Decision::Answer(self.page(StatusCode::FORBIDDEN, "this client may not ask here"), None);
        }
        let levels = table.host(self.host);
        self.live.begin(Stage::OtherName);
        if let Some(redirect) = levels.www() {
            return Decision::Answer(self.other_name(redirect), None);
        }
        let of_host = levels.client_certificates();
        self.live.begin(Stage::HostCertificate);
        if let Some(Err(answer)) = of_host.map(|policy| self.client_certificate(policy, table)) {
            return Decision::Answer(answer, None);
        }
        let way = Way { table, levels, of_host };
        match levels.server_snippet() {
            Some(snippet) => {
                self.live.begin(Stage::ServerSnippet);
                self.pass_server(snippet, way)
            }
            None => self.pass_host(way, None),
        }
    }

    /// Passes what holds for the host, and goes on to what takes the request.
    pub(super) fn pass_host(&self, way: Way<'_>, run: Option<Run<'_>>) -> Decision {
        self.live.begin(Stage::AppRoot);
        if let Some(answer) = self.app_root(way.levels) {
            return Decision::Answer(answer, None);
        }
        if self.path.as_str() == "/healthz" && way.levels.answers_for_us(self.path) {
            return Decision::Answer(Answer::empty(StatusCode::OK, self.facts.request_id), None);
        }
        self.pass_found(way, run)
    }

    /// Looks for what takes the request.
    pub(super) fn pass_found<'t>(&self, way: Way<'t>, mut run: Option<Run<'t>>) -> Decision {
        let Way { table, levels, of_host } = way;
        self.live.begin(Stage::Route);
        let found = levels.find(self.path);
        if let Some((location, settings)) = run.as_mut().and_then(|run| run.locate(found.as_ref(), self.path)) {
            return self.pass_location(location, settings, way, run);
        }
        let Some(found) = found else {
            let mut page = self.page(StatusCode::NOT_FOUND, NO_RULE);
            page.set(self.common_fields(table.unmatched.as_deref()));
            self.dress(&mut page, None, run.as_ref());
            return Decision::Answer(page, None);
        };
        let route = found.route;
        if let Some(snippet) = levels.server_snippet_of(route)
            && run.as_ref().is_none_or(|run| !run.has_run(snippet))
        {
            return self.pass_wider_server(snippet, way, run);
        }
        let request = Request { facts: self.facts.of(route), is_uncovered: levels.is_uncovered(), ..*self };
        // What takes the request may be a rule for more hosts than this one, which asks for something of its own.
        let of_route = levels.client_certificates_of(route).filter(|own| of_host.is_none_or(|of_host| own != &of_host));
        self.live.begin(Stage::RouteCertificate);
        if let Some(Err(answer)) = of_route.map(|policy| self.client_certificate(policy, table)) {
            return Decision::Answer(answer, Some(route.clone()));
        }
        let policies = [of_host, of_route];
        let is_certified = || {
            let mut policies = policies.into_iter().flatten();
            policies.all(|policy| request.certificate_over_tls(policy, route).is_ok())
        };
        match request.pass_route(found, table, levels, policies, &mut run) {
            Ok(Passed::Decided(decision)) => decision,
            Ok(Passed::Seeks) => self.seek(way, run),
            Err(answer) if is_replaced(route, &answer) && is_certified() => {
                if let Some(mut instead) = request.error_forward(route, None, table) {
                    instead.edits.set.push((X_CODE, HeaderValue::from(answer.status.as_u16())));
                    instead.is_bodiless = answer.status == StatusCode::PAYLOAD_TOO_LARGE;
                    return Decision::Forward(instead);
                }
                // Without a service for it, the page is that of ingress-nginx itself, whatever the status.
                let page = self.page(StatusCode::NOT_FOUND, NO_RULE);
                Decision::Answer(page, Some(route.clone()))
            }
            Err(mut answer) => {
                if !route.policy.is_silent() {
                    let is_early = answer.status == StatusCode::PAYLOAD_TOO_LARGE || found.lacks_slash;
                    let cors = !is_early && !is_denied(route);
                    answer.set(self.reply(route, cors));
                }
                if run.is_some() || route.policy.snippet.is_some() {
                    request.dress(&mut answer, Some(route), run.as_ref());
                }
                Decision::Answer(answer, Some(route.clone()))
            }
        }
    }

    fn pass_route<'t>(
        &self,
        found: Match<'t>,
        table: &'t Table,
        levels: HostLevels<'t>,
        policies: [Option<&Arc<ClientCertificates>>; 2],
        run: &mut Option<Run<'t>>,
    ) -> Step<Passed> {
        let route = found.route;
        let method = self.facts.head.method;
        self.live.begin(Stage::Method);
        let refuses = route.policy.manner.refuses_methods;
        if refuses && (*method == Method::TRACE || *method == Method::CONNECT) {
            return Err(self.page(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed"));
        }
        let is_known = |byte: u8| byte.is_ascii_uppercase() || byte == b'_' || byte == b'-';
        if refuses && !method.as_str().bytes().all(is_known) {
            return Err(self.page(StatusCode::BAD_REQUEST, "a method has upper-case letters only"));
        }
        self.live.begin(Stage::BodySize);
        self.body_size(route)?;
        self.live.begin(Stage::MissingSlash);
        if found.lacks_slash {
            return Err(self.with_slash(route));
        }
        if is_denied(route) {
            return Err(self.unavailable("this route is out of service"));
        }
        self.live.begin(Stage::Preflight);
        self.preflight(route)?;
        if run.is_none() && route.policy.snippet.is_none() {
            let decided = self.pass_on(found, table, levels, policies, run);
            return decided.map(Passed::Decided);
        }
        let current = run.get_or_insert_with(|| Run::new(self));
        self.live.begin(Stage::LocationSnippet);
        if !self.run_location(&found, current)? {
            return Ok(Passed::Seeks);
        }
        let moved = self.moved(current)?;
        let mut request = *self;
        if let Some((path, query)) = &moved {
            (request.path, request.query, request.is_rewritten) = (path, query.as_deref(), true);
        }
        request.is_stopped = current.is_stopped();
        let (changed, head) = (request.changed_input(route, current)?, self.facts.head);
        let mut changed_head = *head;
        if let Some(headers) = &changed {
            changed_head.headers = headers;
            request.sent = Some(head.headers);
        }
        request.facts.head = &changed_head;
        request.pass_on(found, table, levels, policies, run).map(Passed::Decided)
    }

    fn pass_on<'t>(
        &self,
        found: Match<'t>,
        table: &'t Table,
        levels: HostLevels<'t>,
        policies: [Option<&Arc<ClientCertificates>>; 2],
        run: &mut Option<Run<'t>>,
    ) -> Step<Decision> {
        let route = found.route;
        self.live.begin(Stage::Redirect);
        if !self.is_stopped {
            self.redirect(route)?;
        }
        self.live.begin(Stage::Https);
        self.https(route)?;
        for policy in policies.into_iter().flatten() {
            self.certificate_over_tls(policy, route)?;
        }
        let client = self.facts.client();
        let verdict = run.as_ref().and_then(|run| run.verdict(client));
        self.live.begin(Stage::Backend);
        if matches!(route.action, Action::NotFound) && !table.has_fallback() {
            return self.missing(route, client, verdict, run);
        }
        let main = self.backend(route, table)?;
        let canary = self.canary(route, main, found.canaries);
        let backend = canary.map_or(main, |canary| &canary.backend);
        let own = backend;
        let mut state = backend.state();
        if route.policy.follows_scheme && self.facts.connection.tls.is_some() {
            state = Arc::new(BackendState { protocol: Protocol::Https, ..BackendState::clone(&state) });
        }
        let mut backend = backend;
        self.live.begin(Stage::Endpoints);
        if state.unavailable.is_some() {
            let errors = route.policy.errors.as_ref().filter(|errors| errors.takes_over);
            let other = errors.and_then(|errors| errors.backend.as_ref());
            let other = other.map(|other| (other, other.state())).filter(|(_, state)| state.unavailable.is_none());
            let Some(other) = other else { return Err(self.unavailable("no endpoint of the service is ready")) };
            (backend, state) = other;
        }
        self.live.begin(Stage::Limit);
        let permit = self.limit(route, client)?;
        self.live.begin(Stage::Access);
        let auth = self.access(route, client, verdict)?;
        let mut edits = self.facts.request_edits();
        if let Some(sent) = self.sent {
            change_input(sent, self.facts.head.headers, &mut edits);
        }
        if route.policy.forwarding.is_some() && state.protocol != Protocol::H2c {
            edits.set.retain(|(name, _)| *name != TE);
        }
        if let Some(connection) = route.policy.connection {
            replace(&mut edits, CONNECTION, HeaderValue::from_static(connection));
        }
        if !Arc::ptr_eq(own, backend) {
            name_backend(route, Some(own), &mut edits);
            edits.set.push((X_CODE, HeaderValue::from_static("503")));
        }
        self.live.begin(Stage::Rewrite);
        let target = self.target(route, main, client, &mut edits)?;
        for (name, template) in route.policy.forwarding.iter().flat_map(|nginx| &nginx.set) {
            let value = template.expand(&self.template_facts(route, Some(main), client));
            edits.set.retain(|(set, _)| set != name);
            edits.set.extend(HeaderValue::from_str(&value).ok().map(|value| (name.clone(), value)));
        }
        if let Some(host) = &route.policy.upstream_host
            && let Ok(host) = HeaderValue::from_str(&host.expand(&self.template_facts(route, Some(main), client)))
        {
            replace(&mut edits, HOST, host);
        }
        let of_main = giver(canary, main, &state);
        let (key, affinity) = self.endpoint(route, backend, &state, of_main.as_deref(), client);
        let [of_host, of_route] = policies;
        let certificate = match (&self.facts.connection.tls, of_route.or(of_host)) {
            (Some(tls), Some(policy)) => client_certificate::fields(policy, tls.client.as_deref()),
            _ => Vec::new(),
        };
        edits.set.extend(certificate.iter().cloned());
        let forward = Box::new(Forward {
            route: route.clone(),
            backend: backend.clone(),
            target,
            edits,
            client,
            upgrade: self.facts.upgrade().is_some(),
            secure: self.facts.secure(),
            upstream_tls: levels.upstream_tls(route).cloned(),
            authority: match &route.policy.respond {
                Some(rules) if rules.changes_values() => self.facts.authority.unwrap_or_default().into(),
                _ => Box::default(),
            },
            reply: if route.policy.is_silent() { Vec::new() } else { self.reply(route, true) },
            cookies: Vec::new(),
            cookies_with_errors: false,
            affinity,
            key,
            permit,
            is_bodiless: false,
            mirror: self.mirror(route, main, client),
            on_error: if route.policy.errors.is_some() { self.error_forward(route, Some(own), table) } else { None },
            is_replacement: false,
            snippet: None,
            state,
        });
        let facts = || self.template_facts(route, Some(main), client);
        self.ask_or_forward(forward, auth, &certificate, facts, run)
    }

    /// What no rule of a host takes: whatever its oldest Ingress asks for comes before the 404.
    fn missing(
        &self,
        route: &Arc<Route>,
        client: IpAddr,
        verdict: Option<Verdict>,
        run: &mut Option<Run<'_>>,
    ) -> Step<Decision> {
        self.live.begin(Stage::Limit);
        self.limit(route, client)?;
        self.live.begin(Stage::Access);
        let auth = self.access(route, client, verdict)?;
        let page = self.page(StatusCode::NOT_FOUND, NO_RULE);
        let Some(auth) = auth else { return Err(page) };
        let missing = Missing { route: route.clone(), page, reply: self.reply(route, true), snippet: None };
        let facts = self.template_facts(route, None, client);
        self.ask(Then::Missing(Box::new(missing)), auth, &[], facts, run)
    }

    /// What goes on to a backend, once whoever has to be asked has been asked.
    fn ask_or_forward<'f>(
        &self,
        mut forward: Box<Forward>,
        auth: Option<&Arc<Auth>>,
        certificate: &[(HeaderName, HeaderValue)],
        facts: impl Fn() -> Facts<'f>,
        run: &mut Option<Run<'_>>,
    ) -> Step<Decision> {
        let Some(auth) = auth else {
            self.live.begin(Stage::Authentication);
            if let Some(run) = run {
                forward.snippet = Some(self.effects(run, facts())?);
                forward.settle(None);
            }
            return Ok(Decision::Forward(forward));
        };
        self.ask(Then::Forward(forward), auth, certificate, facts(), run)
    }

    /// Who has to be asked before a request passes.
    fn ask(
        &self,
        then: Then,
        auth: &Arc<Auth>,
        certificate: &[(HeaderName, HeaderValue)],
        facts: Facts<'_>,
        run: &mut Option<Run<'_>>,
    ) -> Step<Decision> {
        self.live.begin(Stage::Authentication);
        let (head, id) = (self.facts.head, self.facts.request_id);
        let mut ask = Box::new(Ask::new(then, auth, head, &facts, id, certificate));
        if let Some(snippet) = auth.external.as_ref().and_then(|external| external.snippet.as_ref()) {
            self.run_auth(snippet, &mut ask, run.get_or_insert_with(|| Run::new(self)), facts)?;
        }
        if let Some(run) = run {
            ask.set_effects(Some(self.effects(run, facts)?));
        }
        Ok(Decision::Ask(ask))
    }

    /// A body that is announced as larger than it may be.
    fn body_size(&self, route: &Route) -> Step {
        let Some(limit) = route.policy.max_body else { return Ok(()) };
        if content_length(self.facts.head.headers).is_none_or(|length| length <= limit) {
            return Ok(());
        }
        let reason = format!("the request body is larger than {limit} bytes");
        Err(self.page(StatusCode::PAYLOAD_TOO_LARGE, &reason))
    }

    /// A browser's question whether a page may ask (Fetch, section "CORS-preflight fetch").
    fn preflight(&self, route: &Route) -> Step {
        let Some(cors) = &route.policy.cors else { return Ok(()) };
        let head = self.facts.head;
        if head.method != Method::OPTIONS || cors.fields(head.headers.get(ORIGIN)).is_none() {
            return Ok(());
        }
        Err(Answer::empty(StatusCode::NO_CONTENT, self.facts.request_id))
    }

    /// Requests of one client.
    fn limit(&self, route: &Route, client: IpAddr) -> Step<Option<Permit>> {
        let Some(limit) = route.policy.limit.as_ref().filter(|limit| !limit.exempts(client)) else { return Ok(None) };
        self.live.limiter.admit(limit, client).map_err(|much| {
            let status = if much == TooMuch::AtOnce { limit.crowded } else { limit.status };
            self.page(status, "this client asks more than it may")
        })
    }

    /// Source ranges; what else has to be found out. `snippet` is what snippets say of the address.
    pub(super) fn access<'r>(
        &self,
        route: &'r Route,
        client: IpAddr,
        snippet: Option<Verdict>,
    ) -> Step<Option<&'r Arc<Auth>>> {
        let (access, auth) = (route.policy.access.as_ref(), route.policy.auth.as_ref());
        let is_any = auth.is_some_and(|auth| auth.any);
        // As in nginx the first rule that is about an address decides, and those of annotations stand first.
        let verdict = match access {
            Some(access) if !access.permits(client) => Some(Verdict::Denied),
            Some(access) if access.allow.is_some() => Some(Verdict::Allowed),
            _ => snippet,
        };
        match verdict {
            Some(Verdict::Denied) if !is_any => Err(self.forbidden()),
            // An address that is allowed is enough where one thing is.
            Some(Verdict::Allowed) => Ok(auth.filter(|_| !is_any)),
            Some(Verdict::Denied) | None => Ok(auth),
        }
    }

    pub(super) fn forbidden(&self) -> Answer {
        self.page(StatusCode::FORBIDDEN, "this address may not use this service")
    }

    /// Path and query for the backend: as they were sent, or in the form in which paths are matched.
    fn target(&self, route: &Route, backend: &Backend, client: IpAddr, edits: &mut HeaderEdits) -> Step<String> {
        if let Some(rewrite) = route.policy.rewrite.as_ref().filter(|_| !self.is_stopped) {
            let facts = self.template_facts(route, Some(backend), client);
            let with_query = |path: String| match self.query {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            match rewrite.apply(&decoded(self.path.as_str()), &facts) {
                RewriteTarget::Unchanged => {}
                RewriteTarget::Elsewhere(place) => return Err(self.sent_to(StatusCode::FOUND, &with_query(place))),
                RewriteTarget::Path(path, prefix) => {
                    edits.set.extend(prefix.map(|prefix| (X_FORWARDED_PREFIX, prefix)));
                    if !route.policy.manner.verbatim {
                        let path = CanonicalPath::parse(&path).map_or(path, |path| path.to_string());
                        return Ok(with_query(path));
                    }
                    return Ok(with_query(path));
                }
            }
        }
        let as_sent = route.policy.manner.verbatim && !self.is_rewritten;
        Ok(if as_sent { self.facts.head.target.to_owned() } else { self.canonical_target() })
    }
}

/// Whether nothing else counts that an Ingress asks for, since it can't be served as it is written.
fn is_denied(route: &Route) -> bool {
    route.policy.manner.refuses_early && matches!(route.action, Action::Unavailable(_))
}

/// Sets a field in place of what was to be set.
fn replace(edits: &mut HeaderEdits, name: HeaderName, value: HeaderValue) {
    edits.set.retain(|(set, _)| *set != name);
    edits.set.push((name, value));
}

/// The declared length of the body.
fn content_length(headers: &Fields) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
