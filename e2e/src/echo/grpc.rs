//! gRPC framing: every message comes back as it was sent, then the trailers.
//!
//! No message is decoded, so any protobuf client can call it: one message in is a unary call, several are a
//! bidirectional stream.

use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use super::answer::{Body, full};

/// gRPC's status code for a method that does not exist.
const UNIMPLEMENTED: &str = "12";

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pub(super) fn answer(name: &str, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path().ends_with("/Missing") {
        // An answer of trailers only is one header block that ends the stream.
        return grpc_response(name, full(Bytes::new()), Some(UNIMPLEMENTED));
    }
    let frames = stream::unfold(Some(request.into_body()), |body| async move {
        let mut body = body?;
        match body.frame().await {
            Some(Ok(frame)) if frame.is_data() => Some((Ok(frame), Some(body))),
            Some(Err(error)) => Some((Err(error), None)),
            Some(Ok(_)) | None => Some((Ok(Frame::trailers(ok_trailers())), None)),
        }
    });
    grpc_response(name, StreamBody::new(frames).boxed_unsync(), None)
}

fn grpc_response(name: &str, body: Body, status: Option<&'static str>) -> Response<Body> {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer.headers_mut().insert(super::BACKEND, super::backend(name));
    if let Some(status) = status {
        answer.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
    }
    answer
}

fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}
