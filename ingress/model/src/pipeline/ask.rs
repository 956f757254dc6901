//! What has to be found out before a request may pass: whether a password is right, and what a service says of it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::fields::{
    X_AUTH_REQUEST_REDIRECT, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_ORIGINAL_METHOD, X_ORIGINAL_URI, X_ORIGINAL_URL,
    X_REAL_IP, X_REQUEST_ID, X_SCHEME, X_SENT_FROM,
};
use super::hops::is_about_certificate;
use super::page::{Answer, error_page};
use super::{Forward, RequestHead};
use crate::fields::Fields;
use crate::policy::snippet::Effects;
use crate::policy::{Auth, ExternalAuth, Facts};
use crate::table::Route;

/// Fields of one hop, and those that frame the body, which the service does not get.
const NOT_ASKED: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "transfer-encoding",
    "trailer",
    "expect",
    "proxy-authorization",
];

/// A request that may pass once something was found out.
#[derive(Debug)]
pub struct Ask {
    /// What happens to it then.
    then: Then,
    auth: Arc<Auth>,
    /// The name's hash and the password, where the client gave both and the name is known.
    login: Option<(Box<str>, Vec<u8>)>,
    /// The question to the service.
    pub(super) question: Option<Question>,
    /// What a snippet has said in the service's place.
    pub(super) said: Option<StatusCode>,
    /// Where clients are sent that the service knows nothing of.
    signin: Option<String>,
}

/// What happens to a request that may pass.
#[derive(Debug)]
pub(super) enum Then {
    /// It goes to a backend.
    Forward(Box<Forward>),
    /// There is nothing for it.
    Missing(Box<Missing>),
}

/// The answer to whoever may ask, where there is nothing to be asked for.
#[derive(Debug)]
pub(super) struct Missing {
    /// The route that took the request.
    pub(super) route: Arc<Route>,
    /// What it is answered.
    pub(super) page: Answer,
    /// Fields that every answer of the route gets.
    pub(super) reply: Vec<(HeaderName, HeaderValue)>,
    /// What snippets ask for.
    pub(super) snippet: Option<Box<Effects>>,
}

impl Then {
    fn route(&self) -> &Arc<Route> {
        match self {
            Self::Forward(forward) => &forward.route,
            Self::Missing(missing) => &missing.route,
        }
    }

    fn snippet(&self) -> Option<&Effects> {
        match self {
            Self::Forward(forward) => forward.snippet.as_deref(),
            Self::Missing(missing) => missing.snippet.as_deref(),
        }
    }

    fn reply(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Forward(forward) => &forward.reply,
            Self::Missing(missing) => &missing.reply,
        }
    }

    /// The addresses that the backend is told of.
    fn forwarded(&self) -> Option<&HeaderValue> {
        let Self::Forward(forward) = self else { return None };
        forward.edits.set.iter().find(|(name, _)| *name == X_FORWARDED_FOR).map(|(_, list)| list)
    }

    /// Fills in what the service has said for snippets.
    fn settle(&mut self, opinion: Option<(StatusCode, &HeaderMap)>) {
        match self {
            Self::Forward(forward) => forward.settle(opinion),
            Self::Missing(missing) => {
                if let Some(snippet) = &mut missing.snippet {
                    drop(snippet.settle(opinion));
                }
            }
        }
    }

    /// Adds to an answer of our own what the route asks for.
    fn dress(&self, answer: &mut Answer) {
        answer.set(self.reply().iter().cloned());
        if let Some(snippet) = self.snippet() {
            answer.change(snippet);
        }
    }
}

/// A question to a service.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// Where, by HTTP or HTTPS.
    pub url: String,
    /// All fields, `Host` included.
    pub fields: HeaderMap,
    /// What the answer is kept by; `None`: it is not.
    pub key: Option<String>,
}

/// What the service says.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: HeaderMap,
}

impl Ask {
    pub(super) fn new(
        then: Then,
        auth: &Arc<Auth>,
        head: &RequestHead<'_>,
        facts: &Facts<'_>,
        request_id: &HeaderValue,
        certificate: &[(HeaderName, HeaderValue)],
    ) -> Self {
        let external = auth.external.as_deref();
        let question = external.map(|external| {
            let mut question = question(external, head, facts, request_id, then.route(), then.forwarded());
            for (name, value) in certificate {
                question.fields.entry(name).or_insert_with(|| value.clone());
            }
            question
        });
        let signin = external.and_then(|external| signin(external, facts));
        let login = auth.basic.as_ref().and_then(|basic| {
            let (name, password) = credentials(head.headers)?;
            Some((basic.users.get(name.as_str())?.clone(), password))
        });
        Self { then, auth: auth.clone(), login, question, said: None, signin }
    }

    /// The route.
    pub fn route(&self) -> &Arc<Route> {
        self.then.route()
    }

    /// A password and the hash it should have, to be given to [`crate::policy::verify`].
    pub fn login(&self) -> Option<(&str, &[u8])> {
        self.login.as_ref().map(|(hash, password)| (&**hash, password.as_slice()))
    }

    /// The question to ask, unless the password or a snippet has settled everything.
    pub fn question(&self, password_is_right: bool) -> Option<&Question> {
        self.needed(password_is_right).filter(|_| self.said.is_none())
    }

    /// The question, unless the password has settled everything.
    fn needed(&self, password_is_right: bool) -> Option<&Question> {
        let settled = match &self.auth.basic {
            Some(_) => password_is_right == self.auth.any,
            None => false,
        };
        self.question.as_ref().filter(|_| !settled)
    }

    /// What snippets ask for.
    pub fn snippet(&self) -> Option<&Effects> {
        self.then.snippet()
    }

    /// What snippets ask for, to be filled in.
    pub(super) fn set_effects(&mut self, effects: Option<Box<Effects>>) {
        match &mut self.then {
            Then::Forward(forward) => forward.snippet = effects,
            Then::Missing(missing) => missing.snippet = effects,
        }
    }

    /// How long the answer to the question is kept.
    pub fn kept_for(&self, opinion: &Opinion) -> Option<std::time::Duration> {
        self.auth.external.as_ref()?.cache.as_ref()?.duration(opinion.status.as_u16())
    }

    /// What happens to the request, as far as the password is right and by what the service said: `None` is that it
    /// could not be asked.
    pub fn conclude(
        self,
        password_is_right: bool,
        opinion: Option<&Opinion>,
        headers: &Fields,
        request_id: &HeaderValue,
    ) -> Result<Box<Forward>, Answer> {
        let own = match &self.then {
            Then::Forward(forward) if forward.on_error.is_some() => Some(forward.clone()),
            _ => None,
        };
        let concluded = self.judge(password_is_right, opinion, headers, request_id);
        concluded.or_else(|answer| match own.and_then(|mut own| own.instead_of(answer.status, true)) {
            Some(instead) => Ok(instead),
            None => Err(answer),
        })
    }

    fn judge(
        self,
        password_is_right: bool,
        opinion: Option<&Opinion>,
        headers: &Fields,
        request_id: &HeaderValue,
    ) -> Result<Box<Forward>, Answer> {
        let asked = self.needed(password_is_right).is_some();
        let Self { mut then, auth, signin, said, .. } = self;
        let said = said.map(|status| Opinion { status, fields: HeaderMap::new() });
        let opinion = said.as_ref().or(opinion);
        then.settle(opinion.filter(|_| asked).map(|opinion| (opinion.status, &opinion.fields)));
        let page = |status: StatusCode, reason: &str| {
            let mut answer = error_page(status, reason, headers, request_id);
            then.dress(&mut answer);
            answer
        };
        let unauthorized = || {
            let mut answer = page(StatusCode::UNAUTHORIZED, "a name and a password are needed");
            let challenge = auth.basic.as_ref().map(|basic| (WWW_AUTHENTICATE, basic.challenge.clone()));
            answer.headers.extend(challenge);
            answer
        };
        if auth.basic.is_some() && !password_is_right && !(auth.any && asked) {
            return Err(unauthorized());
        }
        if let (true, Some(external)) = (asked, &auth.external) {
            let status = opinion.map_or(StatusCode::INTERNAL_SERVER_ERROR, |opinion| opinion.status);
            match status {
                status if status.is_success() => {}
                StatusCode::UNAUTHORIZED if auth.basic.is_some() && auth.any => return Err(unauthorized()),
                StatusCode::UNAUTHORIZED => return Err(refused(opinion, signin, page, request_id, then.reply())),
                StatusCode::FORBIDDEN => {
                    return Err(page(StatusCode::FORBIDDEN, "the authentication service refuses this request"));
                }
                _ => {
                    let reason = "the authentication service gave no answer that can be used";
                    return Err(page(StatusCode::INTERNAL_SERVER_ERROR, reason));
                }
            }
            if let (Some(opinion), Then::Forward(forward)) = (opinion, &mut then) {
                for name in &external.response_headers {
                    forward.edits.set.retain(|(set, _)| set != name);
                    match opinion.fields.get(name) {
                        Some(value) => forward.edits.set.push((name.clone(), value.clone())),
                        None => forward.edits.remove.push(name.clone()),
                    }
                }
                forward.cookies = opinion.fields.get_all(SET_COOKIE).iter().cloned().collect();
                forward.cookies_with_errors = external.always_set_cookie;
            }
        }
        match then {
            Then::Forward(mut forward) => {
                if auth.basic.is_some() {
                    forward.edits.remove.push(AUTHORIZATION);
                }
                Ok(forward)
            }
            Then::Missing(ref missing) => {
                let mut page = missing.page.clone();
                then.dress(&mut page);
                Err(page)
            }
        }
    }
}

/// The answer to a client that the service knows nothing of.
fn refused(
    opinion: Option<&Opinion>,
    signin: Option<String>,
    page: impl Fn(StatusCode, &str) -> Answer,
    request_id: &HeaderValue,
    reply: &[(HeaderName, HeaderValue)],
) -> Answer {
    let fields = opinion.map(|opinion| &opinion.fields);
    if let Some(place) = signin.and_then(|place| HeaderValue::try_from(place).ok()) {
        let mut answer = Answer::empty(StatusCode::FOUND, request_id);
        answer.set(reply.iter().cloned());
        answer.headers.push((LOCATION, place));
        let cookies = fields.into_iter().flat_map(|fields| fields.get_all(SET_COOKIE));
        answer.headers.extend(cookies.map(|cookie| (SET_COOKIE, cookie.clone())));
        return answer;
    }
    let mut answer = page(StatusCode::UNAUTHORIZED, "this request is not authorised");
    let challenges = fields.into_iter().flat_map(|fields| fields.get_all(WWW_AUTHENTICATE));
    answer.headers.extend(challenges.map(|challenge| (WWW_AUTHENTICATE, challenge.clone())));
    answer
}

/// Name and password of `Authorization: Basic` (RFC 7617 section 2).
pub fn credentials(headers: &Fields) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((name, decoded[colon + 1..].to_vec()))
}

/// The question of ingress-nginx: the client's own fields, and what it asked for. `forwarded` is the list of addresses
/// that the backend would get.
fn question(
    external: &ExternalAuth,
    head: &RequestHead<'_>,
    facts: &Facts<'_>,
    request_id: &HeaderValue,
    route: &Route,
    forwarded: Option<&HeaderValue>,
) -> Question {
    // Arguments in the URL are those of the URL itself.
    let url = external.url.expand(&facts.without_arguments());
    let mut fields = passed_on(head.headers);
    fields.remove(X_FORWARDED_PROTO);
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            fields.insert(name, value);
        }
    };
    let (_, authority, _) = parts(&url);
    set(HOST, authority.rsplit_once(':').map_or(authority, |(host, _)| host));
    set(X_ORIGINAL_URL, &format!("{}://{}{}", facts.scheme, facts.authority, facts.request_uri));
    set(X_ORIGINAL_METHOD, head.method.as_str());
    set(X_SENT_FROM, "nginx-ingress-controller");
    let client = facts.client.map(|client| client.to_string()).unwrap_or_default();
    set(X_REAL_IP, &client);
    set(X_FORWARDED_FOR, forwarded.and_then(|list| list.to_str().ok()).unwrap_or(&client));
    let redirect = external.request_redirect.as_ref().map(|redirect| redirect.expand(facts));
    set(X_AUTH_REQUEST_REDIRECT, redirect.as_deref().unwrap_or(facts.request_uri));
    set(X_REQUEST_ID, request_id.to_str().unwrap_or_default());
    if external.method.is_some() {
        set(X_ORIGINAL_URI, facts.request_uri);
        set(X_SCHEME, facts.outer_scheme);
    }
    for (name, template) in &external.set_headers {
        set(name.clone(), &template.expand(facts));
    }
    let key = external.cache.as_ref().map(|cache| {
        let path = route.written.text(route.id.path.as_ref());
        format!("{}\n{path}\n{}\n{}", route.id.host, route.id.ingress, cache.key.expand(facts))
    });
    Question { method: external.method.clone().unwrap_or(Method::GET), url, fields, key }
}

/// The fields of a client that another service may see, without those of one hop and those that frame the body.
pub(super) fn passed_on(headers: &Fields) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(headers.len() + 8);
    for (name, value) in headers.iter() {
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let passes = !NOT_ASKED.contains(&name.as_str()) && !is_about_certificate(name.as_str().as_bytes());
        if passes && name != CONTENT_LENGTH {
            fields.append(name, value.to_value());
        }
    }
    fields
}

/// Whether by TLS, host and port, and the rest of a URL.
pub fn parts(url: &str) -> (bool, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    (scheme == "https", &rest[..end], &rest[end..])
}

fn signin(external: &ExternalAuth, facts: &Facts<'_>) -> Option<String> {
    let signin = external.signin.as_ref()?;
    let mut place = signin.url.expand(facts);
    if let Some(parameter) = &signin.parameter {
        let separator = if place.contains('?') { '&' } else { '?' };
        let target = crate::policy::escaped_argument(facts.request_uri);
        place = format!("{place}{separator}{parameter}={}://{}{target}", facts.outer_scheme, facts.authority);
    }
    Some(place)
}
