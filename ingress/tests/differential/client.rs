//! The client of a conversation: sends each request as the script says, and reads what comes.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::backend::Backend;
use super::message::{Reader, Stop};
use super::script::{Conversation, End, Exchange};
use super::seen::{Finish, Seen};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    stream: TcpStream,
    reader: Reader,
    used: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: Reader::new(stream.try_clone().unwrap()), stream, used: false }
    }
}

/// Runs a conversation on one connection, and on another one where the server has closed the first.
pub(crate) fn converse(address: SocketAddr, backend: &Backend, conversation: &Conversation) -> Vec<Seen> {
    let mut connection = Connection::open(address);
    let mut all: Vec<Seen> = Vec::new();
    for exchange in conversation {
        let mut seen = ask(&mut connection, exchange);
        let unheard = seen.client.is_empty() && seen.finish == Finish::Closed && connection.used;
        if unheard && exchange.end == End::Whole && !backend.was_asked(exchange) {
            if let Some(last) = all.last_mut() {
                last.finish = Finish::Closed;
            }
            connection = Connection::open(address);
            seen = ask(&mut connection, exchange);
        }
        connection.used = true;
        if seen.finish != Finish::Open {
            connection = Connection::open(address);
        }
        all.push(seen);
    }
    all
}

fn ask(connection: &mut Connection, exchange: &Exchange) -> Seen {
    let mut seen = Seen { client: Vec::new(), finish: Finish::Open, backend: Vec::new() };
    for piece in &exchange.pieces {
        // A server that has refused the rest may close while it is being sent.
        if connection.stream.write_all(piece).is_err() {
            break;
        }
    }
    match exchange.end {
        End::Whole => {}
        End::HalfClosed => drop(connection.stream.shutdown(Shutdown::Write)),
        End::Gone => {
            let _ = connection.stream.shutdown(Shutdown::Both);
            seen.finish = Finish::Left;
            return seen;
        }
    }
    loop {
        let mut message = match connection.reader.head() {
            Ok(message) => message,
            Err((stop, begun)) => {
                seen.finish = match (stop, begun) {
                    (Stop::Hung, _) => Finish::Hung,
                    (Stop::Closed | Stop::Reset, true) => Finish::CutInHead,
                    (Stop::Closed | Stop::Reset, false) => Finish::Closed,
                };
                return seen;
            }
        };
        let read = connection.reader.response_body(&mut message, exchange.method);
        let interim = message.status() < 200 && message.status() != 101;
        let closes = message.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let until_end = message.framing == super::message::Framing::UntilEnd;
        seen.client.push(message);
        match read {
            Err(Stop::Hung) => seen.finish = Finish::Hung,
            Err(Stop::Closed | Stop::Reset) => seen.finish = Finish::Closed,
            Ok(()) if interim => continue,
            Ok(()) if closes || until_end || exchange.end == End::HalfClosed => seen.finish = Finish::Closed,
            Ok(()) => {}
        }
        return seen;
    }
}
