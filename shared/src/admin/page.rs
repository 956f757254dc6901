//! The page: files that are part of the program, and questions that its script asks.

use std::convert::Infallible;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

/// The body of an answer: whole, or as it comes.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Fields of every answer. Nothing of the page comes from elsewhere, and nothing of it may be shown in another one.
const FIELDS: [(HeaderName, HeaderValue); 5] = [
    (
        hyper::header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (hyper::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (hyper::header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its path, as in `/page.css`.
    pub path: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// What is in it.
    pub text: &'static str,
}

/// What is asked, behind the `?` of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what a form sends, as the URL Standard has it (`application/x-www-form-urlencoded`).
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        };
        Self(pairs.map(pair).collect())
    }

    /// The first value of a name that isn't empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let values: Vec<&str> = self.0.iter().filter(|(known, _)| known == name).map(|(_, v)| v.as_str()).collect();
        values.into_iter()
    }
}

/// Decodes `%41` and `+`; what is malformed stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The answer to a question of the page.
pub enum Answer {
    /// JSON.
    Json(String),
    /// The question can't be answered: a status, and why in one sentence.
    Refused(StatusCode, String),
    /// Server-sent events (HTML Standard, section 9.2), as they come.
    Events(BoxStream<'static, Bytes>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(text) => f.debug_tuple("Json").field(text).finish(),
            Self::Refused(status, why) => f.debug_tuple("Refused").field(status).field(why).finish(),
            Self::Events(_) => f.write_str("Events"),
        }
    }
}

/// What answers a question of the page.
pub(super) type Handler = Box<dyn Fn(Query) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The answer as it is sent.
pub(super) fn respond(answer: Answer) -> Response<Body> {
    match answer {
        Answer::Json(text) => whole(StatusCode::OK, JSON, text),
        Answer::Refused(status, why) => whole(status, TEXT, why + "\n"),
        Answer::Events(events) => {
            let frames = events.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            response(StatusCode::OK, "text/event-stream", StreamBody::new(frames).boxed_unsync())
        }
    }
}

/// An answer that is there as a whole.
pub(super) fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    response(status, kind, Full::new(text.into()).boxed_unsync())
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().extend(FIELDS);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_a_form_sends_it() {
        let query = Query::parse("url=https%3A%2F%2Fshop.example%2Fa+b&header=A%3A+1&header=B&empty=&bad=%4");
        assert_eq!(query.get("url"), Some("https://shop.example/a b"));
        assert_eq!(query.all("header").collect::<Vec<_>>(), ["A: 1", "B"]);
        assert_eq!((query.get("empty"), query.get("none"), query.get("bad")), (None, None, Some("%4")));
        assert_eq!(Query::parse("a=%+1%ü").get("a"), Some("% 1%ü"));
    }
}
