//! Which answer a request gets.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::{grpc, socket};

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// One piece of a long body: as long as a data frame of HTTP/2 may be by default.
const PIECE: usize = 16 * 1024;

/// The most that `/bytes/N` gives: enough for any test, and an end to a mistyped number.
const MOST_BYTES: u64 = 16 << 30;

pub(super) async fn answer(
    name: Arc<str>,
    client: SocketAddr,
    finishing: watch::Receiver<bool>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if grpc::is_grpc(request.headers()) {
        return Ok(grpc::answer(&name, request));
    }
    if socket::is_upgrade(request.headers()) {
        return Ok(socket::answer(&name, finishing, request));
    }
    let path = request.uri().path().to_owned();
    let mut segments = path.rsplit('/');
    let (last, before) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    Ok(match (before, last.parse::<u64>()) {
        ("bytes", Ok(count)) => bytes(count.min(MOST_BYTES)),
        ("chunks", Ok(count)) => chunks(count),
        (kind, number) => {
            let mut status = StatusCode::OK;
            match (kind, number) {
                ("status", Ok(code)) => {
                    let code = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
                    status = code.unwrap_or(StatusCode::BAD_REQUEST);
                }
                ("sleep", Ok(millis)) => tokio::time::sleep(Duration::from_millis(millis)).await,
                _ => {}
            }
            description(&name, client, status, request).await
        }
    })
}

/// A whole body.
pub(super) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn description(name: &str, client: SocketAddr, status: StatusCode, request: Request<Incoming>) -> Response<Body> {
    // A port for both families sees IPv4 clients as mapped addresses.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let (head, body) = request.into_parts();
    let received = match count(body).await {
        Ok(received) => received,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{name}: {error}\n")),
    };
    if head.uri.path().ends_with("/upload") {
        return text(status, format!("{name} received {received} bytes\n"));
    }
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    // In HTTP/2 the host is in the pseudo-header; a reader wants to see it in the same place.
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if wants_json(&head.headers) {
        let value = json!({
            "name": name, "method": head.method.as_str(), "path": path, "protocol": format!("{:?}", head.version),
            "authority": authority, "client": client, "headers": headers(&head.headers), "bytes": received,
        });
        let mut answer = Response::new(full(value.to_string()));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        return answer;
    }
    let mut said = format!("{name} {} {path} {:?}\nclient: {client}\n", head.method, head.version);
    if let Some(authority) = authority {
        let _ = writeln!(said, ":authority: {authority}");
    }
    for (key, value) in &head.headers {
        let _ = writeln!(said, "{key}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text(status, said)
}

/// Reads a body to its end without keeping it.
async fn count(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(received)
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"))
}

fn headers(headers: &HeaderMap) -> Value {
    let mut map = Map::new();
    for key in headers.keys() {
        let values: Vec<_> =
            headers.get_all(key).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        map.insert(key.to_string(), json!(values.join(", ")));
    }
    Value::Object(map)
}

fn text(status: StatusCode, said: String) -> Response<Body> {
    let mut answer = Response::new(full(said));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn bytes(count: u64) -> Response<Body> {
    let piece = Bytes::from(vec![b'x'; PIECE]);
    let pieces = stream::unfold(count, move |left| {
        let piece = piece.slice(..usize::try_from(left).unwrap_or(PIECE).min(PIECE));
        async move { (left > 0).then(|| (Ok(Frame::data(piece.clone())), left - piece.len() as u64)) }
    });
    let mut answer = Response::new(StreamBody::new(pieces).boxed_unsync());
    answer.headers_mut().insert(http::header::CONTENT_LENGTH, count.into());
    answer
}

fn chunks(count: u64) -> Response<Body> {
    let lines = stream::iter((0..count).map(|line| Ok(Frame::data(Bytes::from(format!("line {line}\n"))))));
    Response::new(StreamBody::new(lines).boxed_unsync())
}
