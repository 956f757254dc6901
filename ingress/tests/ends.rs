//! Every way in which a request can end, on every pair of protocols: what a backend with kept connections receives
//! parses into exactly the requests that were meant, and each answer reaches whoever asked for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use landfall_ingress::engine::Carrier;
use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::tls::CertificateTable;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::client::Client;
use support::frames::{Ends, Frames, Outcome};
use support::plane::{Plane, rule, table};

/// What a backend saw: whole requests by their id, and what was no request.
#[derive(Default)]
struct Seen {
    whole: Mutex<HashMap<u64, Vec<u8>>>,
    malformed: Mutex<Vec<String>>,
}

impl Seen {
    fn take(&self, id: &str, body: Vec<u8>) {
        let before = self.whole.lock().unwrap().insert(id.parse().unwrap(), body);
        assert!(before.is_none(), "request {id} came twice");
    }
}

/// A strict HTTP/1.1 backend: whatever is not exactly a request is noted, and ends its connection.
fn http1_backend(seen: &Arc<Seen>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = seen.clone();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(tcp.try_clone().unwrap());
                let mut writer = tcp;
                loop {
                    match one_request(&mut reader, &seen) {
                        Ok(Some(id)) => {
                            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{id}", id.len());
                            let _ = writer.write_all(answer.as_bytes());
                        }
                        Ok(None) => return,
                        Err(what) => {
                            seen.malformed.lock().unwrap().push(what);
                            let _ = writer.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nstray");
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// `None`: the connection has ended, between two requests or within one.
fn one_request(reader: &mut BufReader<TcpStream>, seen: &Seen) -> Result<Option<String>, String> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let mut parts = line.split(' ');
    let (Some(method), Some(_), Some("HTTP/1.1"), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("{line:?} is no request line"));
    };
    let (mut id, mut length, mut chunked) = (String::new(), None, false);
    loop {
        let Some(field) = read_line(reader)? else { return Ok(None) };
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(": ").ok_or(format!("{field:?} is no field"))?;
        match name.to_ascii_lowercase().as_str() {
            "x-id" => value.clone_into(&mut id),
            "content-length" if length.is_none() => length = Some(value.parse::<usize>().map_err(|_| field.clone())?),
            "transfer-encoding" if !chunked && value == "chunked" => chunked = true,
            "content-length" | "transfer-encoding" => return Err(format!("{field:?} once more")),
            _ => {}
        }
    }
    if id.is_empty() || (chunked && length.is_some()) {
        return Err(format!("a {method} without an id, or with two framings"));
    }
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return Ok(None);
    }
    if chunked && !read_chunks(reader, &mut body)? {
        return Ok(None);
    }
    seen.take(&id, body);
    Ok(Some(id))
}

/// False where the connection ends within them.
fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Result<bool, String> {
    loop {
        let Some(size) = read_line(reader)? else { return Ok(false) };
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("{size:?} is no chunk size"))?;
        if size == 0 {
            break;
        }
        let mut chunk = vec![0; size + 2];
        if reader.read_exact(&mut chunk).is_err() {
            return Ok(false);
        }
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk does not end where it says".to_owned());
        }
        body.extend(&chunk[..size]);
    }
    loop {
        match read_line(reader)? {
            None => return Ok(false),
            Some(line) if line.is_empty() => return Ok(true),
            Some(line) if line.contains(": ") => {}
            Some(line) => return Err(format!("{line:?} is no trailer")),
        }
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    let read = reader.read_until(b'\n', &mut line).unwrap_or(0);
    if read == 0 || !line.ends_with(b"\n") {
        return Ok(None);
    }
    let text = String::from_utf8(line).map_err(|_| "a line is not ASCII")?;
    text.strip_suffix("\r\n").map(|line| Some(line.to_owned())).ok_or(format!("{text:?} ends without a return"))
}

/// A backend that speaks HTTP/2 in the clear.
fn http2_backend(runtime: &tokio::runtime::Runtime, seen: &Arc<Seen>) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = seen.clone();
    runtime.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(one_stream(request, respond, seen.clone()));
                }
            });
        }
    });
    address
}

async fn one_stream(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: Arc<Seen>,
) {
    let (parts, mut incoming) = request.into_parts();
    let id = parts.headers["x-id"].to_str().unwrap().to_owned();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let Ok(data) = data else { return };
        let _ = incoming.flow_control().release_capacity(data.len());
        body.extend(data);
    }
    if incoming.trailers().await.is_err() {
        return;
    }
    seen.take(&id, body);
    if let Ok(mut send) = respond.send_response(http::Response::new(()), false) {
        let _ = send.send_data(id.into(), true);
    }
}

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Without a body.
    Bodiless,
    /// With its last byte, as announced.
    Announced,
    /// Unannounced, in an own piece of nothing.
    Empty,
    /// Unannounced, with its last piece.
    WithLast,
    /// In trailers.
    Trailers,
    /// With padding, where there is such a thing.
    Padded,
    /// Given up by its client half-way.
    GivenUp,
    /// Before all that was announced.
    Short,
    /// Behind all that was announced.
    Long,
}

const ENDS: [End; 9] = [
    End::Bodiless,
    End::Announced,
    End::Empty,
    End::WithLast,
    End::Trailers,
    End::Padded,
    End::GivenUp,
    End::Short,
    End::Long,
];

impl End {
    /// Whether the backend may see a whole request, and its client gets an answer to it.
    fn is_sound(self) -> bool {
        !matches!(self, Self::GivenUp | Self::Short | Self::Long)
    }
}

/// A request.
#[derive(Clone, Debug)]
struct Meant {
    id: u64,
    end: End,
    body: Vec<u8>,
    pieces: usize,
}

impl Meant {
    fn random(id: u64, end: End, random: &mut SmallRng) -> Self {
        let size = if end == End::Bodiless { 0 } else { random.random_range(1..3000) };
        let body = (0..size).map(|_| random.random()).collect();
        Self { id, end, body, pieces: random.random_range(1..4) }
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.body.chunks(self.body.len().div_ceil(self.pieces).max(1))
    }
}

/// Asks over HTTP/1.1 and says whether the answer was the right one; a broken request may be refused or cut off.
fn ask_http1(client: &mut Option<Client>, address: SocketAddr, meant: &Meant) -> Result<(), String> {
    let sender = client.get_or_insert_with(|| Client::plain(address));
    let Meant { id, end, body, .. } = meant;
    let head = format!("POST /{id} HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n");
    match end {
        End::Bodiless => sender.send(format!("GET /{id} HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n\r\n")),
        End::Announced | End::Short | End::GivenUp | End::Long => {
            let announced = if *end == End::Announced || *end == End::Long { body.len() } else { body.len() + 10 };
            sender.send(format!("{head}Content-Length: {announced}\r\n\r\n"));
            meant.pieces().for_each(|piece| sender.send(piece));
            if *end == End::Long {
                sender.send("\0\0 not a request\r\n\r\n");
            }
        }
        End::Empty | End::WithLast | End::Trailers | End::Padded => {
            let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            for piece in meant.pieces() {
                let extension = if *end == End::Padded { ";pad=\"xxxx\"" } else { "" };
                bytes.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
                if *end == End::Empty {
                    sender.send(std::mem::take(&mut bytes));
                }
            }
            bytes.extend(b"0\r\n");
            bytes.extend(if *end == End::Trailers { &b"X-Sum: 1\r\n\r\n"[..] } else { b"\r\n" });
            sender.send(bytes);
        }
    }
    if matches!(end, End::Short | End::GivenUp) {
        if *end == End::Short {
            // What follows is the rest of the body, as far as anybody can tell.
            sender.send("0123456");
        }
        *client = None;
        return Ok(());
    }
    let answer = sender.read_response(false).ok_or("no answer")?;
    if *end == End::Long {
        *client = None;
    }
    if answer.text() == id.to_string() { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
}

/// Asks over HTTP/2.
fn ask_http2(client: &mut Option<(Frames, u32)>, address: SocketAddr, meant: &Meant) -> Result<(), String> {
    let (frames, stream) = client.get_or_insert_with(|| (Frames::connect(address), 1));
    let (id, length) = (meant.id.to_string(), meant.body.len());
    let method = if meant.end == End::Bodiless { "GET" } else { "POST" };
    let path = format!("/{id}");
    let announced = match meant.end {
        End::Announced => Some(length),
        End::Short => Some(length + 10),
        End::Long => Some(length - 1),
        _ => None,
    };
    let announced = announced.map(|length| length.to_string());
    let mut fields =
        vec![(":method", method), (":scheme", "http"), (":authority", "a"), (":path", &path), ("x-id", &id)];
    fields.extend(announced.as_deref().map(|length| ("content-length", length)));
    frames.head(*stream, &fields, if meant.end == End::Bodiless { Ends::Yes } else { Ends::No });
    let pieces: Vec<&[u8]> = meant.pieces().collect();
    let with_last = matches!(meant.end, End::Announced | End::WithLast | End::Short | End::Long | End::Padded);
    for (index, piece) in pieces.iter().enumerate() {
        let last = with_last && index + 1 == pieces.len();
        let padding = (meant.end == End::Padded).then_some(7);
        frames.data(*stream, piece, padding, if last { Ends::Yes } else { Ends::No });
    }
    match meant.end {
        End::Empty => frames.data(*stream, b"", None, Ends::Yes),
        End::Trailers => frames.head(*stream, &[("x-sum", "1")], Ends::Yes),
        End::GivenUp => frames.reset(*stream),
        _ => {}
    }
    let asked = *stream;
    *stream += 2;
    if meant.end == End::GivenUp {
        return Ok(());
    }
    match frames.outcome(asked) {
        Outcome::Answer(body) if meant.end.is_sound() && body == id.as_bytes() => Ok(()),
        Outcome::Answer(body) if !meant.end.is_sound() && body != id.as_bytes() => Ok(()),
        Outcome::Reset if !meant.end.is_sound() => {
            // Whoever breaks the rules may lose the connection.
            *client = None;
            Ok(())
        }
        outcome => Err(format!("{outcome:?}")),
    }
}

/// Runs all ends in their order and then so many in a random order, and looks at what came of them.
fn run(carrier: Carrier, protocol: Protocol, rounds: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let seen = Arc::new(Seen::default());
    let backend = if protocol == Protocol::H2c { http2_backend(&runtime, &seen) } else { http1_backend(&seen) };
    let rules = vec![rule("a", "/", &[backend]).protocol(protocol)];
    let plane = Plane::with(table(rules, CertificateTable::default()), |config| config.carrier = carrier);
    let mut random = SmallRng::seed_from_u64(20_261_127);
    let (mut http1, mut http2) = ([None, None], [None, None]);
    let mut sent = HashMap::new();
    for id in 0..rounds {
        let in_order = usize::try_from(id).unwrap();
        let end = *ENDS.get(in_order / 2).unwrap_or(&ENDS[random.random_range(0..ENDS.len())]);
        let meant = Meant::random(id, end, &mut random);
        let which = random.random_range(0..2);
        let over_http2 = if in_order < 2 * ENDS.len() { id % 2 == 1 } else { random.random() };
        let outcome = if over_http2 {
            ask_http2(&mut http2[which], plane.http(), &meant)
        } else {
            ask_http1(&mut http1[which], plane.http(), &meant)
        };
        assert_eq!(outcome, Ok(()), "{end:?} over HTTP/2: {over_http2}, request {id}");
        // A request over HTTP/1 that is followed by something else is whole nevertheless.
        let whole = end.is_sound() || (end == End::Long && !over_http2);
        sent.insert(id, (whole, meant.body));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(*seen.malformed.lock().unwrap(), Vec::<String>::new());
    let whole = seen.whole.lock().unwrap();
    for (id, (sound, body)) in &sent {
        assert_eq!(whole.get(id).is_some(), *sound, "request {id}");
        assert!(whole.get(id).is_none_or(|seen| seen == body), "the body of request {id}");
    }
}

#[test]
fn requests_end_once_at_an_http1_backend() {
    run(Carrier::Landfall, Protocol::Http, 1000);
}

#[test]
fn requests_end_once_with_the_other_carrier_too() {
    run(Carrier::Pingora, Protocol::Http, 200);
}

#[test]
fn requests_end_once_at_an_http2_backend() {
    run(Carrier::Landfall, Protocol::H2c, 1000);
}

#[test]
fn a_flood_of_frames_that_do_nothing_ends_the_connection() {
    let plane = Plane::start(vec![]);
    let mut frames = Frames::connect(plane.http());
    for _ in 0..20_000 {
        frames.ping();
    }
    // ENHANCE_YOUR_CALM, unless the end of the connection overtakes it.
    assert!(matches!(frames.goodbye(), Some(11) | None));
    assert_eq!(Client::plain(plane.http()).get("a", "/").status, 404, "others are served");
}

#[test]
fn equal_lengths_over_http2_are_refused() {
    let seen = Arc::new(Seen::default());
    let plane = Plane::start(vec![rule("a", "/", &[http1_backend(&seen)])]);
    let mut frames = Frames::connect(plane.http());
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("x-id", "1")];
    let lengths = [("content-length", "3"), ("content-length", "3")];
    frames.head(1, &[&fields[..], &lengths[..]].concat(), Ends::No);
    frames.data(1, b"abc", None, Ends::Yes);
    let answered = frames.outcome(1);
    assert!(matches!(&answered, Outcome::Answer(page) if page.starts_with(b"400")) || answered == Outcome::Reset);
    assert!(seen.whole.lock().unwrap().is_empty());
}
