//! WebSockets: every message comes back as it was sent, until the backend finishes.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::answer::{Body, full};

/// How long a client that is sent away may take to close.
const GOODBYE: Duration = Duration::from_secs(5);

pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

pub(super) fn answer(name: &str, finishing: watch::Receiver<bool>, mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        let mut answer = Response::new(full(format!("{name}: no sec-websocket-key\n")));
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        return answer;
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            echo(TokioIo::new(stream), finishing).await;
        }
    });
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(super::BACKEND, super::backend(name));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

async fn echo(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, mut finishing: watch::Receiver<bool>) {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = finishing.wait_for(|finishing| *finishing) => break,
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // Pings are answered and the closing handshake is completed by the library.
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
    // RFC 6455 section 7.4.1: 1001 is what a server says that goes down.
    let away = CloseFrame { code: CloseCode::Away, reason: "".into() };
    let goodbye = async {
        if socket.close(Some(away)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A client that doesn't answer is left to find out.
    let _ = timeout(GOODBYE, goodbye).await;
}
