//! An API server within the process, for tests: it answers what a test says, and fails how a test says.
//!
//! No socket is involved, so tests run on tokio's paused clock: a watch that stalls for minutes takes no time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A request as the server sees it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

impl Call {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }
}

/// What the server does with a request.
pub(crate) enum Answer {
    /// A status code and a JSON body.
    Json(u16, Value),
    /// 200 and a body in pieces.
    Pieces(Vec<Piece>),
    /// Nothing, ever.
    Hang,
    /// The connection is refused.
    Refuse,
}

/// A piece of a streamed body. The body ends after the last one.
pub(crate) enum Piece {
    /// A line of JSON.
    Line(Value),
    /// Text as it is.
    Raw(&'static str),
    /// Nothing for a while.
    Pause(Duration),
    /// Nothing any more, without an end.
    Stall,
    /// The connection is cut.
    Cut,
}

/// An error as an API server words it.
pub(crate) fn failure(code: u16, message: &str) -> Answer {
    Answer::Json(code, status(code, message))
}

pub(crate) fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

/// A client whose requests are answered by `server`.
pub(crate) fn client(server: impl FnMut(&Call) -> Answer + Send + 'static) -> Client {
    let server = Arc::new(Mutex::new(server));
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let call = Call {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            let answer = (server.lock().unwrap_or_else(PoisonError::into_inner))(&call);
            respond(answer).await
        }
    });
    Client::new(service, "default")
}

async fn respond(answer: Answer) -> io::Result<Response<UnsyncBoxBody<Bytes, io::Error>>> {
    let (code, pieces) = match answer {
        Answer::Json(code, value) => (code, vec![Piece::Line(value)]),
        Answer::Pieces(pieces) => (200, pieces),
        Answer::Hang => std::future::pending::<Infallible>().await.into_answer(),
        Answer::Refuse => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused")),
    };
    let frames = futures::stream::iter(pieces).then(async |piece| match piece {
        Piece::Line(value) => Some(Ok(Frame::data(Bytes::from(format!("{value}\n"))))),
        Piece::Raw(text) => Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
        Piece::Pause(time) => {
            tokio::time::sleep(time).await;
            None
        }
        Piece::Stall => std::future::pending().await,
        Piece::Cut => Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset"))),
    });
    let body = StreamBody::new(frames.filter_map(async |frame| frame)).boxed_unsync();
    Response::builder().status(code).body(body).map_err(io::Error::other)
}

/// Makes [`Infallible`] fit where an answer would stand.
trait Never {
    fn into_answer(self) -> (u16, Vec<Piece>);
}

impl Never for Infallible {
    fn into_answer(self) -> (u16, Vec<Piece>) {
        match self {}
    }
}

/// Objects by path, with the rules for resource versions that writers rely on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    inner: Arc<Mutex<Objects>>,
}

#[derive(Debug, Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<Call>,
}

impl Store {
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.with(|objects| objects.store(path, object));
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.with(|objects| objects.by_path.get(path).cloned())
    }

    /// The requests so far that asked for a change.
    pub(crate) fn writes(&self) -> Vec<Call> {
        self.with(|objects| objects.writes.clone())
    }

    pub(crate) fn answer(&self, call: &Call) -> Answer {
        self.with(|objects| objects.answer(call))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Objects {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.by_path.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let path = call.path.trim_end_matches("/status").to_owned();
        if call.method != Method::GET {
            self.writes.push(call.clone());
        }
        if call.method == Method::POST {
            let name = call.body["metadata"]["name"].as_str().unwrap_or("generated");
            let path = format!("{path}/{name}");
            if self.by_path.contains_key(&path) {
                return failure(409, "already exists");
            }
            return Answer::Json(201, self.store(&path, call.body.clone()));
        }
        let Some(known) = self.by_path.get(&path).cloned() else { return failure(404, "not found") };
        match call.method {
            Method::GET => Answer::Json(200, known),
            Method::PUT if call.body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"] => {
                failure(409, "the object has been modified")
            }
            Method::PUT => Answer::Json(200, self.store(&path, call.body.clone())),
            Method::PATCH => {
                let mut object = known;
                merge(&mut object, &call.body);
                Answer::Json(200, self.store(&path, object))
            }
            Method::DELETE => Answer::Json(200, self.by_path.remove(&path).unwrap_or_default()),
            _ => failure(405, "method not allowed"),
        }
    }
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            object.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut object[name], value);
        }
    }
}
