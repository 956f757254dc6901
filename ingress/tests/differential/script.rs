//! What clients send and backends answer, made from a seed.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::pools::{METHODS, REQUEST_FIELDS, RESPONSE_FIELDS, STATUSES, TARGETS};

/// Exchanges on one connection; the last one is plain, and tells whether the connection was left in order.
pub(crate) type Conversation = Vec<Exchange>;

/// How a client ends a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It has sent all and waits for the answer.
    Whole,
    /// It has sent all, says that there is no more to come, and waits for the answer.
    HalfClosed,
    /// It has sent a part of the body, and leaves.
    Gone,
}

/// What a backend does behind an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    Keep,
    Close,
}

/// What a backend answers to one attempt.
#[derive(Clone)]
pub(crate) struct Answer {
    pub bytes: Vec<u8>,
    /// Where the bytes are cut into writes.
    pub cuts: Vec<usize>,
    pub then: Then,
}

/// A request and what is answered to it.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub id: u64,
    pub method: &'static str,
    /// The request in the pieces in which it is written.
    pub pieces: Vec<Vec<u8>>,
    /// The body of the request, decoded.
    pub body: Vec<u8>,
    pub end: End,
    /// For the attempts in their order; the last one is for all further ones.
    pub answers: Vec<Answer>,
    /// Whether the request certainly comes to the backend.
    pub reaches: bool,
    /// What is special about it.
    pub traits: BTreeSet<&'static str>,
}

impl Exchange {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.traits.contains(name)
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exchange {} ({:?}, {:?})", self.id, self.end, self.traits)?;
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string().chars().take(600).collect::<String>();
        for piece in &self.pieces {
            writeln!(f, "  > {}", show(piece))?;
        }
        for answer in &self.answers {
            writeln!(f, "  < {} cut at {:?}, {:?}", show(&answer.bytes), answer.cuts, answer.then)?;
        }
        Ok(())
    }
}

/// One to four exchanges and the plain one.
pub(crate) fn conversation(random: &mut SmallRng, id: &mut u64) -> Conversation {
    let mut next = || {
        *id += 1;
        *id
    };
    let count = random.random_range(1..=4);
    let mut all: Vec<Exchange> = (0..count).map(|_| Maker::new(random, next()).make()).collect();
    all.push(plain(next()));
    all
}

fn plain(id: u64) -> Exchange {
    let request = format!("GET /plain HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n\r\n").into_bytes();
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain".to_vec();
    let answers = vec![Answer { bytes, cuts: Vec::new(), then: Then::Keep }];
    let (body, traits) = (Vec::new(), BTreeSet::new());
    Exchange { id, method: "GET", pieces: vec![request], body, end: End::Whole, answers, reaches: true, traits }
}

/// Texts here hold bytes as the characters of the same number.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

struct Maker<'a> {
    random: &'a mut SmallRng,
    id: u64,
    traits: BTreeSet<&'static str>,
}

impl<'a> Maker<'a> {
    fn new(random: &'a mut SmallRng, id: u64) -> Self {
        Self { random, id, traits: BTreeSet::new() }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// Notes something special, with this probability.
    fn special(&mut self, percent: u32, name: &'static str) -> bool {
        let happens = self.chance(percent);
        if happens {
            self.traits.insert(name);
        }
        happens
    }

    fn choose<'b>(&mut self, all: &[&'b str]) -> &'b str {
        all.choose(self.random).unwrap()
    }

    fn some_bytes(&mut self) -> Vec<u8> {
        let length = match self.random.random_range(0..20) {
            0 => 0,
            1 => self.random.random_range(10_000..90_000),
            2..6 => self.random.random_range(500..5000),
            _ => self.random.random_range(1..60),
        };
        (0..length).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect()
    }

    fn make(mut self) -> Exchange {
        let method = self.choose(METHODS);
        let (head, body, framed) = self.request(method);
        let mut bytes = [head.clone(), framed].concat();
        let mut end = match self.random.random_range(0..30) {
            0 => End::Gone,
            1 => End::HalfClosed,
            _ => End::Whole,
        };
        if end == End::Gone {
            if bytes.len() > head.len() + 1 {
                bytes.truncate(self.random.random_range(head.len()..bytes.len() - 1));
            } else {
                end = End::Whole;
            }
        }
        let pieces = self.cut(bytes.len(), 3);
        let mut from = 0;
        let pieces =
            pieces.into_iter().chain([bytes.len()]).map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec());
        let pieces = pieces.collect();
        let mut answers = vec![self.answer(method)];
        if self.chance(50) {
            answers.push(self.answer(method));
        }
        let Self { id, traits, .. } = self;
        let reaches =
            end != End::Gone && !traits.contains("refused") && !traits.contains("broken chunk in the request");
        Exchange { id, method, pieces, body, end, answers, reaches, traits }
    }

    /// Head, body and framed body of a request.
    fn request(&mut self, method: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let target = self.choose(TARGETS);
        let version = if self.special(8, "request of HTTP/1.0") { "HTTP/1.0" } else { "HTTP/1.1" };
        // These are answered before they get to a carrier.
        if target == "*" || target == "/a b" {
            self.traits.insert("refused");
        }
        let mut head = format!("{method} {target} {version}\r\nHost: a\r\nX-Id: {}\r\n", self.id);
        for _ in 0..self.random.random_range(0..6) {
            let field = self.choose(REQUEST_FIELDS);
            head += field;
            head += "\r\n";
        }
        if head.matches("\r\nConnection:").count() > 1 {
            self.traits.insert("several Connection fields");
        }
        if self.special(3, "request with a long field") {
            let _ = write!(head, "X-Long: {}\r\n", "x".repeat(self.random.random_range(1000..9000)));
        }
        let has_body = match method {
            "POST" | "PUT" | "PATCH" => self.chance(95),
            _ => self.special(8, "body of a method that has none"),
        };
        if !has_body {
            return (latin(&(head + "\r\n")), Vec::new(), Vec::new());
        }
        let body = self.some_bytes();
        if self.special(8, "request expects 100") {
            head += "Expect: 100-continue\r\n";
        }
        if version == "HTTP/1.0" || self.chance(50) {
            let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
            return (latin(&head), body.clone(), body);
        }
        head += "Transfer-Encoding: chunked\r\n\r\n";
        let mut framed = self.chunks(&body);
        if self.special(3, "broken chunk in the request") {
            let at = self.random.random_range(0..framed.len());
            framed[at] = b'#';
        }
        (latin(&head), body, framed)
    }

    /// A body in chunks, with extensions and trailers perhaps.
    fn chunks(&mut self, body: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        let size = self.random.random_range(1..=body.len().max(1)).max(body.len() / 20 + 1);
        let extension = if self.special(10, "chunk extensions") { ";a=\"b\"" } else { "" };
        for chunk in body.chunks(size) {
            framed.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
            framed.extend(chunk);
            framed.extend(b"\r\n");
        }
        framed.extend(format!("0{extension}\r\n").bytes());
        if self.special(10, "trailers") {
            framed.extend(b"X-Sum: 1\r\nX-Other: 2\r\n");
        }
        framed.extend(b"\r\n");
        framed
    }

    fn answer(&mut self, method: &str) -> Answer {
        if self.special(3, "backend closes without an answer") {
            return Answer { bytes: Vec::new(), cuts: Vec::new(), then: Then::Close };
        }
        if self.special(2, "answer that is no HTTP") {
            let bytes =
                self.choose(&["nonsense\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0\n\n"]);
            return Answer { bytes: bytes.as_bytes().to_vec(), cuts: Vec::new(), then: Then::Close };
        }
        let mut text = String::new();
        for (percent, name, interim) in [
            (4, "interim 103", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"),
            (3, "interim 100", "HTTP/1.1 100 Continue\r\n\r\n"),
            (2, "interim 102", "HTTP/1.1 102 Processing\r\n\r\n"),
        ] {
            if self.special(percent, name) {
                text += interim;
            }
        }
        let version = if self.special(6, "answer of HTTP/1.0") { "HTTP/1.0" } else { "HTTP/1.1" };
        let status = self.choose(STATUSES);
        let _ = write!(text, "{version} {status}\r\n");
        for _ in 0..self.random.random_range(0..6) {
            text += self.choose(RESPONSE_FIELDS);
            text += "\r\n";
        }
        if self.special(2, "folded field in the answer") {
            text += "X-Fold: a\r\n b\r\n";
        }
        if self.special(2, "field without a name in the answer") {
            text += ": x\r\n";
        }
        let bodiless = method == "HEAD" || status.starts_with("204") || status.starts_with("304");
        let (framing, mut framed, mut then) = self.response_body(bodiless, version);
        text += &framing;
        if then == Then::Keep && version == "HTTP/1.0" && self.chance(50) {
            text += "Connection: keep-alive\r\n";
        } else if then == Then::Keep && (version == "HTTP/1.0" || self.special(10, "answer that closes")) {
            text += "Connection: close\r\n";
            then = Then::Close;
        }
        if self.special(3, "answer with bare line feeds") {
            text = text.replace("\r\n", "\n");
            text += "\n";
        } else {
            text += "\r\n";
        }
        if framed.len() > 1 && self.special(4, "answer that is cut off") {
            framed.truncate(self.random.random_range(0..framed.len() - 1));
            then = Then::Close;
        }
        let bytes = [latin(&text), framed].concat();
        let cuts = self.cut(bytes.len(), 3);
        Answer { bytes, cuts, then }
    }

    /// The fields that frame the body of an answer, and the framed body.
    fn response_body(&mut self, bodiless: bool, version: &str) -> (String, Vec<u8>, Then) {
        let body = self.some_bytes();
        if bodiless {
            let framing = match self.random.random_range(0..4) {
                0 => format!("Content-Length: {}\r\n", body.len()),
                1 => "Transfer-Encoding: chunked\r\n".to_owned(),
                _ => String::new(),
            };
            return (framing, Vec::new(), Then::Keep);
        }
        match self.random.random_range(0..24) {
            0..3 => (String::new(), body, Then::Close),
            3..11 if version == "HTTP/1.1" => {
                let mut framed = self.chunks(&body);
                if self.special(4, "broken chunk in the answer") {
                    let at = self.random.random_range(0..framed.len());
                    framed[at] = b'#';
                    return ("Transfer-Encoding: chunked\r\n".to_owned(), framed, Then::Close);
                }
                ("Transfer-Encoding: chunked\r\n".to_owned(), framed, Then::Keep)
            }
            11 if self.special(40, "two lengths in the answer") => {
                (format!("Content-Length: {0}\r\nContent-Length: {0}\r\n", body.len()), body, Then::Keep)
            }
            12 if self.special(40, "two different lengths in the answer") => {
                (format!("Content-Length: {}\r\nContent-Length: 1\r\n", body.len()), body, Then::Close)
            }
            13 if self.special(40, "length and chunks in the answer") => {
                let framed = self.chunks(&body);
                (format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", body.len()), framed, Then::Close)
            }
            14 if self.special(40, "unknown coding of the answer") => {
                ("Transfer-Encoding: gzip, chunked\r\n".to_owned(), body, Then::Close)
            }
            15 if self.special(40, "answer longer than it says") => {
                (format!("Content-Length: {}\r\n", body.len() / 2), body, Then::Close)
            }
            16 if self.special(40, "no number as length of the answer") => {
                ("Content-Length: +5\r\n".to_owned(), body, Then::Close)
            }
            _ => (format!("Content-Length: {}\r\n", body.len()), body, Then::Keep),
        }
    }

    /// Up to `most` places within `length`, in order.
    fn cut(&mut self, length: usize, most: usize) -> Vec<usize> {
        let count = if length < 2 || self.chance(50) { 0 } else { self.random.random_range(1..=most) };
        let mut cuts: Vec<usize> = (0..count).map(|_| self.random.random_range(1..length)).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}
