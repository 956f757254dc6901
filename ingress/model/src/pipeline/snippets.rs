//! Where snippets run on the way of a request: that of a server before anything is looked for, that of a location once
//! it is found, that of an authentication service before it is asked. What they say of fields holds for whatever is
//! answered in the end.

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};

use super::Decision;
use super::ask::{Ask, credentials};
use super::page::Answer;
use super::request::{Request, Way};
use super::steps::Step;
use crate::fields::{Fields, HeaderEdits};
use crate::path::CanonicalPath;
use crate::policy::snippet::{Effects, End, Holding, Level, Memory, Nearest, Place, Said, Scene, Snippet, Verdict};
use crate::policy::{Facts, decoded, escaped};
use crate::table::{Match, PathRule, Route, ServerSnippet};

/// How often a path may be rewritten so that something else is to be found; nginx's own number.
const MOST_REWRITES: u8 = 10;

/// What `return` answers without saying of which kind it is.
const DEFAULT_TYPE: HeaderValue = HeaderValue::from_static("text/html");

/// What snippets have come to in one request.
#[derive(Default)]
pub(super) struct Run<'t> {
    memory: Memory,
    user: Box<str>,
    holding: Holding<'t>,
    /// Those of servers that have run; the last one's locations count.
    servers: Vec<&'t ServerSnippet>,
    end: Option<End>,
    rewrites: u8,
}

impl<'t> Run<'t> {
    pub(super) fn new(request: &Request<'_>) -> Self {
        let path = decoded(request.path.as_str()).into_owned();
        let user = credentials(request.facts.head.headers).map(|(name, _)| name.into()).unwrap_or_default();
        Self { memory: Memory::new(path, request.query), user, ..Self::default() }
    }

    /// Whether the snippet of a server has run.
    pub(super) fn has_run(&self, snippet: &ServerSnippet) -> bool {
        self.servers.iter().any(|ran| std::ptr::eq(*ran, snippet))
    }

    /// Whether the rewrite phase was ended.
    pub(super) fn is_stopped(&self) -> bool {
        self.end == Some(End::Stopped)
    }

    /// What `allow` and `deny` say of a client.
    pub(super) fn verdict(&self, client: std::net::IpAddr) -> Option<Verdict> {
        self.holding.verdict(client)
    }

    /// The location block that takes the request, if one does rather than what the rules have.
    pub(super) fn locate(&mut self, found: Option<&Match<'_>>, path: &CanonicalPath) -> Option<(Place, &'t Level)> {
        let server = self.servers.last()?.as_ref().ok()?;
        let location = server.locate(&mut self.memory, nearest(found, path))?;
        Some((location.at, &location.level))
    }

    fn scene<'s>(&'s self, request: &Request<'_>, facts: Facts<'s>) -> Scene<'s> {
        Scene { facts, version: request.facts.head.version, user: &self.user }
    }
}

/// What the rules have for a request.
fn nearest(found: Option<&Match<'_>>, path: &CanonicalPath) -> Nearest {
    let Some(found) = found else { return Nearest::NONE };
    if found.pattern.is_some() {
        return Nearest::Regex;
    }
    match &found.route.id.path {
        Some(PathRule::Exact(_)) => Nearest::Exact,
        Some(PathRule::Prefix(prefix)) if !prefix.is_empty() && (found.lacks_slash || **prefix == *path.as_str()) => {
            Nearest::Exact
        }
        Some(PathRule::Prefix(prefix)) => Nearest::Prefix(prefix.len() + 1),
        None if found.route.written.is_regex => Nearest::Regex,
        None => Nearest::Prefix(1),
    }
}

impl Request<'_> {
    /// Runs the snippet of the host, and goes on with what it leaves.
    pub(super) fn pass_server<'t>(&self, snippet: &'t ServerSnippet, way: Way<'t>) -> Decision {
        let mut run = Run::new(self);
        match self.run_server(snippet, &mut run) {
            Err(answer) => Decision::Answer(answer, None),
            Ok(()) => self.with(run, |request, run| request.pass_host(way, Some(run))),
        }
    }

    /// As [`Self::pass_server`], of the wider host whose rules have taken the request.
    pub(super) fn pass_wider_server<'t>(
        &self,
        snippet: &'t ServerSnippet,
        way: Way<'t>,
        run: Option<Run<'t>>,
    ) -> Decision {
        let mut run = run.unwrap_or_else(|| Run::new(self));
        match self.run_server(snippet, &mut run) {
            Err(answer) => Decision::Answer(answer, None),
            Ok(()) => self.with(run, |request, run| request.pass_found(way, Some(run))),
        }
    }

    fn run_server<'t>(&self, snippet: &'t ServerSnippet, run: &mut Run<'t>) -> Step {
        run.servers.push(snippet);
        let Ok(snippet) = snippet else {
            return Err(self.page(StatusCode::SERVICE_UNAVAILABLE, "this host is out of service"));
        };
        run.holding = Holding { server: Some(&snippet.level.settings), ..Holding::default() };
        self.run_level(&snippet.level, run, false)?;
        Ok(())
    }

    /// Runs a location block of a server, which answers whatever it takes.
    pub(super) fn pass_location<'t>(
        &self,
        at: Place,
        level: &'t Level,
        way: Way<'t>,
        run: Option<Run<'t>>,
    ) -> Decision {
        let mut run = run.unwrap_or_else(|| Run::new(self));
        (run.holding.location, run.holding.inner) = (Some(&level.settings), None);
        let mut answer = match self.run_level(level, &mut run, false) {
            Ok(()) if run.memory.seeks() => return self.seek(way, Some(run)),
            Ok(()) if run.verdict(self.facts.client()) == Some(Verdict::Denied) => self.forbidden(),
            Ok(()) => self.page(StatusCode::NOT_FOUND, "there is nothing here"),
            Err(answer) => answer,
        };
        self.dress(&mut answer, None, Some(&run));
        answer.said.get_or_insert(at);
        Decision::Answer(answer, None)
    }

    /// Runs the snippet of a route; `false`: the path is another one, for which something is to be found.
    pub(super) fn run_location<'t>(&self, found: &Match<'t>, run: &mut Run<'t>) -> Step<bool> {
        let route = found.route;
        (run.holding.location, run.holding.inner, run.end) = (None, None, None);
        let Some(snippet) = &route.policy.snippet else { return Ok(true) };
        if let Some(pattern) = found.pattern {
            let path = run.memory.path().to_vec();
            run.memory.set_groups(pattern.captures(&path).as_ref());
        }
        run.holding.location = Some(&snippet.level.settings);
        self.run_level(&snippet.level, run, route.policy.relative_redirects)?;
        if !run.memory.seeks() {
            return Ok(true);
        }
        // What annotations ask for stands behind the snippet: a redirect answers, and a rewrite ends the phase.
        let policy = &route.policy;
        let goes_on = !run.is_stopped()
            && (policy.redirect.is_some()
                || policy.rewrite.as_ref().is_some_and(|rewrite| rewrite.is_for(run.memory.path())));
        if goes_on {
            run.memory.found();
        }
        Ok(goes_on)
    }

    /// Runs directives. What they answer is dressed by the caller, but for a server's.
    fn run_level<'t>(&self, level: &'t Level, run: &mut Run<'t>, relative: bool) -> Step {
        let client = self.facts.client();
        let facts = self.request_facts(client);
        let scene = Scene { facts, version: self.facts.head.version, user: &run.user };
        let ran = level.run(&mut run.memory, &scene).map_err(|_| self.failed())?;
        if run.holding.location.is_some() {
            run.holding.inner = ran.settings;
        }
        if let End::Said(said) = &ran.end {
            let mut answer = self.said(said, run, relative);
            if run.holding.location.is_none() {
                self.dress(&mut answer, None, Some(run));
            }
            return Err(answer);
        }
        run.end = Some(ran.end);
        Ok(())
    }

    /// Runs the snippet of the location in which an authentication service is asked.
    pub(super) fn run_auth(&self, snippet: &Snippet, ask: &mut Ask, run: &mut Run<'_>, facts: Facts<'_>) -> Step {
        let scene = Scene { facts, version: self.facts.head.version, user: &run.user };
        let level = &snippet.level;
        let ran = level.run(&mut run.memory, &scene).map_err(|_| self.failed())?;
        if let End::Said(said) = ran.end {
            ask.said = Some(said.status);
        } else if let Some(question) = &mut ask.question {
            let holding = Holding { server: None, location: Some(&level.settings), inner: ran.settings };
            holding.question(&mut question.fields, &run.memory, &scene).map_err(|_| self.failed())?;
        }
        Ok(())
    }

    /// The fields of the request as snippets leave them, where they change any.
    pub(super) fn changed_input(&self, route: &Route, run: &Run<'_>) -> Step<Option<Fields>> {
        if !run.holding.changes_input() {
            return Ok(None);
        }
        let headers = &self.facts.head.headers.to_map();
        let scene = run.scene(self, self.template_facts(route, None, self.facts.client()));
        let changed = run.holding.input(headers, &run.memory, &scene).map_err(|_| self.failed())?;
        Ok(changed.as_ref().map(Fields::from))
    }

    /// What snippets make of a request that goes to a backend, and of its response.
    pub(super) fn effects(&self, run: &Run<'_>, facts: Facts<'_>) -> Step<Box<Effects>> {
        let effects = run.holding.effects(&run.memory, &run.scene(self, facts), self.live.now);
        effects.map(Box::new).map_err(|_| self.failed())
    }

    /// Does to an answer of our own what snippets ask for where it was made.
    pub(super) fn dress(&self, answer: &mut Answer, route: Option<&Route>, run: Option<&Run<'_>>) {
        let client = self.facts.client();
        let facts = match route {
            Some(route) => self.template_facts(route, None, client),
            None => self.request_facts(client),
        };
        // Without a run nothing has run yet, and what holds for the location holds nevertheless.
        let fresh;
        let run = if let Some(run) = run {
            run
        } else {
            fresh = Run::new(self);
            &fresh
        };
        let mut holding = run.holding;
        holding.location = holding.location.or_else(|| Some(&route?.policy.snippet.as_ref()?.level.settings));
        let scene = run.scene(self, facts);
        match holding.effects(&run.memory, &scene, self.live.now) {
            Ok(mut effects) => {
                effects.settle(None);
                answer.change(&effects);
            }
            Err(_) => *answer = self.failed(),
        }
    }

    /// Goes on with the path that a location has left, which may lead elsewhere.
    pub(super) fn seek<'t>(&self, way: Way<'t>, run: Option<Run<'t>>) -> Decision {
        let mut run = run.unwrap_or_else(|| Run::new(self));
        run.rewrites += 1;
        if run.rewrites > MOST_REWRITES {
            let reason = "the path was rewritten again and again";
            return Decision::Answer(self.page(StatusCode::INTERNAL_SERVER_ERROR, reason), None);
        }
        (run.holding.location, run.holding.inner) = (None, None);
        self.with(run, |request, run| request.pass_found(way, Some(run)))
    }

    /// Goes on with the path and the query that snippets have left.
    fn with<'t>(&self, mut run: Run<'t>, then: impl FnOnce(&Request<'_>, Run<'t>) -> Decision) -> Decision {
        run.memory.found();
        match self.moved(&run) {
            Err(answer) => Decision::Answer(answer, None),
            Ok(None) => then(self, run),
            Ok(Some((path, query))) => {
                let moved = Request { path: &path, query: query.as_deref(), is_rewritten: true, ..*self };
                then(&moved, run)
            }
        }
    }

    /// Path and query, where snippets have changed them. The path is brought into the form in which it is matched.
    pub(super) fn moved(&self, run: &Run<'_>) -> Step<Option<(CanonicalPath, Option<String>)>> {
        if !run.memory.is_rewritten() {
            return Ok(None);
        }
        let path = CanonicalPath::parse(&escaped(run.memory.path())).map_err(|_| self.failed())?;
        let arguments = run.memory.arguments();
        let query = (!arguments.is_empty()).then(|| printable(arguments).into_owned());
        Ok(Some((path, query)))
    }

    /// The answer of a `return` or of a rewrite that redirects.
    fn said(&self, said: &Said, run: &Run<'_>, relative: bool) -> Answer {
        let mut answer = match (&said.location, &said.text) {
            (Some(place), _) => self.sent_to(said.status, &self.absolute(&printable(place), relative)),
            (None, Some(text)) => {
                let mut answer = Answer::empty(said.status, self.facts.request_id);
                let kind = run.holding.default_type().cloned().unwrap_or(DEFAULT_TYPE);
                answer.headers.push((CONTENT_TYPE, kind));
                answer.body = String::from_utf8_lossy(text).into_owned();
                answer
            }
            (None, None) if said.status.as_u16() < 400 => Answer::empty(said.status, self.facts.request_id),
            (None, None) => self.page(said.status, "the configuration of this host says so"),
        };
        answer.said = Some(said.at);
        answer.is_final = said.text.is_some() || said.status.as_u16() < 400;
        answer
    }

    /// A place with scheme and host, unless it has its own or need not have any.
    fn absolute(&self, place: &str, relative: bool) -> String {
        if !place.starts_with('/') || relative {
            return place.to_owned();
        }
        let host = self.host.map(crate::host::HostName::as_str).unwrap_or_default();
        format!("{}://{host}{place}", self.scheme())
    }

    fn failed(&self) -> Answer {
        self.page(StatusCode::INTERNAL_SERVER_ERROR, "the configuration of this host came to nothing that can be used")
    }
}

/// What stands in a request line or in `Location`, with everything escaped that may not.
fn printable(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(bytes.len() + 8);
            for &byte in bytes {
                if byte.is_ascii_graphic() {
                    text.push(char::from(byte));
                } else {
                    // Writing to a text can't fail.
                    let _ = std::fmt::Write::write_fmt(&mut text, format_args!("%{byte:02X}"));
                }
            }
            Cow::Owned(text)
        }
    }
}

/// Adds to the edits of a request what snippets have changed of the client's fields; what is set anyway stays.
pub(super) fn change_input(sent: &Fields, changed: &Fields, edits: &mut HeaderEdits) {
    let (sent, changed) = (sent.to_map(), changed.to_map());
    let differs = |name: &&HeaderName| !sent.get_all(*name).iter().eq(changed.get_all(*name).iter());
    let mut names: Vec<&HeaderName> = sent.keys().chain(changed.keys()).filter(differs).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    names.dedup();
    for name in names {
        if edits.set.iter().any(|(set, _)| set == name) {
            continue;
        }
        edits.remove.push(name.clone());
        edits.add.extend(changed.get_all(name).iter().map(|value| (name.clone(), value.clone())));
    }
}
