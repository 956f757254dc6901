//! `echo`: the backend of `test`. It says what it was sent: HTTP/1.1, WebSockets, and HTTP/2 in the clear with gRPC.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::EchoArgs;
use crate::trial::SOCKET;

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Largest answer that may be asked for.
const LARGEST: usize = 1 << 30;

/// Serves until it is stopped.
pub fn run(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    crate::once(async {
        let listener =
            TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen at {}", args.listen))?;
        eprintln!("landfall-ingress echo at {}", listener.local_addr()?);
        serve(listener).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            // A client that breaks off is nobody's problem.
            let _ = connection(stream).await;
        });
    }
}

async fn connection(stream: TcpStream) -> anyhow::Result<()> {
    let mut first = [0; PREFACE.len()];
    // A request is longer than this, so it comes whole or never.
    let mut length = 0;
    while length < first.len() {
        length = stream.peek(&mut first).await?;
        if length == 0 || first[..length] != PREFACE[..length] {
            break;
        }
        tokio::task::yield_now().await;
    }
    if length == first.len() && first == *PREFACE {
        return http2(stream).await;
    }
    let service = service_fn(http1_answer);
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
    Ok(())
}

async fn http1_answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().get(header::SEC_WEBSOCKET_KEY).is_some_and(|key| key == SOCKET.0) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let _ = frames(TokioIo::new(upgraded)).await;
            }
        });
        return Ok(switching());
    }
    let wanted = asked(request.uri().path());
    let mut received = 0;
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, Bytes::len);
    }
    Ok(Response::new(Full::new(said(wanted, received))))
}

/// `/bytes/N` asks for so many bytes.
fn asked(path: &str) -> Option<usize> {
    path.strip_prefix("/bytes/")?.parse().ok().filter(|count| *count <= LARGEST)
}

fn said(wanted: Option<usize>, received: usize) -> Bytes {
    wanted.map_or_else(|| format!("received {received}\n").into(), |count| vec![b'x'; count].into())
}

fn switching() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(SOCKET.1));
    answer
}

/// Sends short frames back, without their mask (RFC 6455, section 5.2).
async fn frames(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let mut head = [0; 6];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[1] & 0x7f);
        if length > 125 || head[0] & 0x0f == 8 {
            return stream.write_all(&[0x88, 0]).await;
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(head[2..].iter().cycle()) {
            *byte ^= mask;
        }
        stream.write_all(&[head[0], head[1] & 0x7f]).await?;
        stream.write_all(&payload).await?;
    }
}

async fn http2(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        tokio::spawn(async move {
            let _ = http2_answer(request, respond).await;
        });
    }
    Ok(())
}

async fn http2_answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> anyhow::Result<()> {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    let mut answer = Response::builder().status(StatusCode::OK);
    if is_grpc {
        answer = answer.header(header::CONTENT_TYPE, "application/grpc");
    }
    let mut stream = respond.send_response(answer.body(())?, false)?;
    if is_grpc {
        stream.send_data(message.into(), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers)?;
    } else {
        stream.send_data(said(None, message.len()), true)?;
    }
    Ok(())
}
