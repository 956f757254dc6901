//! The client of a conversation over HTTP/2: all of its exchanges at once, as streams of one connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{Framing, Message};
use super::script::{Conversation, End, Exchange};
use super::seen::{Finish, Seen};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// RFC 9113 section 8.2.2: fields that no message of HTTP/2 has. A length is said by its frames.
const NOT_SENT: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding", "te", "host", "expect"];

/// Runs a conversation.
pub(crate) async fn converse(address: SocketAddr, conversation: &Conversation) -> Vec<Seen> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let served = tokio::spawn(connection);
    let all = futures::future::join_all(conversation.iter().map(|exchange| ask(&send, exchange))).await;
    served.abort();
    all
}

async fn ask(send: &SendRequest<Bytes>, exchange: &Exchange) -> Seen {
    let mut seen = Seen { client: Vec::new(), finish: Finish::Open, backend: Vec::new() };
    let Some((request, trailers)) = request(exchange) else { return seen };
    let body = &exchange.body;
    let bodiless = body.is_empty() && trailers.is_none();
    let Ok(mut send) = send.clone().ready().await else {
        seen.finish = Finish::Closed;
        return seen;
    };
    let (response, mut stream) = send.send_request(request, bodiless).unwrap();
    if exchange.end == End::Gone {
        let _ = stream.send_data(Bytes::copy_from_slice(&body[..body.len() / 2]), false);
        stream.send_reset(Reason::CANCEL);
        seen.finish = Finish::Left;
        return seen;
    }
    // What the server does not take any more is no business of the answer.
    let upload = async {
        if !bodiless {
            let _ = timeout(PATIENCE, upload(&mut stream, body, exchange.pieces.len(), trailers)).await;
        }
    };
    let answer = async {
        match timeout(PATIENCE, response).await {
            Err(_) => seen.finish = Finish::Hung,
            Ok(Err(_)) => seen.finish = Finish::Closed,
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                let mut message = Message {
                    first: format!("HTTP/2 {}", head.status.as_u16()),
                    fields: listed(&head.headers),
                    framing: Framing::None,
                    body: Vec::new(),
                    trailers: Vec::new(),
                    whole: false,
                };
                match timeout(PATIENCE, read(body, &mut message)).await {
                    Err(_) => seen.finish = Finish::Hung,
                    Ok(Err(_)) => seen.finish = Finish::Closed,
                    Ok(Ok(())) => message.whole = true,
                }
                seen.client.push(message);
            }
        }
    };
    tokio::join!(upload, answer);
    seen
}

/// The head of the request and its trailers; `None` where HTTP/2 has no such request.
fn request(exchange: &Exchange) -> Option<(Request<()>, Option<HeaderMap>)> {
    let bytes = exchange.pieces.concat();
    let text: String = bytes.iter().copied().map(char::from).collect();
    let (head, framed) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let (_, rest) = lines.next()?.split_once(' ')?;
    let (target, _) = rest.rsplit_once(' ')?;
    let target = target.strip_prefix("http://a").unwrap_or(target);
    PathAndQuery::try_from(target).ok().filter(|path| path.as_str().starts_with('/'))?;
    let mut request = Request::builder().method(exchange.method).uri(format!("http://a{target}"));
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let bytes: Vec<u8> = value.trim().chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect();
        let name = HeaderName::try_from(name).ok()?;
        if !NOT_SENT.contains(&name.as_str()) && name != http::header::CONTENT_LENGTH {
            request = request.header(name, HeaderValue::from_bytes(&bytes).ok()?);
        }
    }
    let trailers = framed.contains("\r\nX-Sum: 1\r\n").then(|| {
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        HeaderMap::from_iter([field("x-sum", "1"), field("x-other", "2")])
    });
    Some((request.version(Version::HTTP_2).body(()).ok()?, trailers))
}

/// Sends a body in about as many pieces as the script has.
async fn upload(
    stream: &mut SendStream<Bytes>,
    body: &[u8],
    pieces: usize,
    trailers: Option<HeaderMap>,
) -> Result<(), h2::Error> {
    for piece in body.chunks(body.len().div_ceil(pieces).max(1)) {
        let mut rest = Bytes::copy_from_slice(piece);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = match futures::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => room?.min(rest.len()),
                None => return Ok(()),
            };
            stream.send_data(rest.split_to(room), false)?;
        }
    }
    match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}

async fn read(mut body: RecvStream, message: &mut Message) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.body.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        message.trailers = listed(&trailers);
    }
    Ok(())
}

fn listed(fields: &HeaderMap) -> Vec<(String, String)> {
    let latin = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    fields.iter().map(|(name, value)| (name.to_string(), latin(value))).collect()
}
