//! What was seen of an exchange, without what differs between two runs of the same carrier.

use std::fmt::Write as _;

use super::message::Message;
use super::script::{End, Exchange};

/// What became of the client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finish {
    /// Another request may follow.
    Open,
    /// The server has closed it, or said that it would.
    Closed,
    /// The server has closed it within a head.
    CutInHead,
    /// Nothing came any more.
    Hung,
    /// The client has left.
    Left,
}

/// What was seen of an exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// What came to the client: interim responses and the last one.
    pub client: Vec<Message>,
    pub finish: Finish,
    /// What came to the backend: one message for each attempt.
    pub backend: Vec<Message>,
}

impl Seen {
    /// Takes out what no two runs have in common: names are compared without case and in any order (RFC 9110 section
    /// 5.1 and 5.3), fields of one name in theirs; dates and request ids only by whether they are there; and of a
    /// request that its client has not sent whole, how much of its body was passed on.
    pub(crate) fn normalise(&mut self, exchange: &Exchange) {
        let mut id = None;
        for message in self.client.iter_mut().chain(&mut self.backend) {
            for fields in [&mut message.fields, &mut message.trailers] {
                for (name, _) in fields.iter_mut() {
                    name.make_ascii_lowercase();
                }
                fields.sort_by(|one, other| one.0.cmp(&other.0));
            }
            for (name, value) in &mut message.fields {
                match name.as_str() {
                    "date" => value.clear(),
                    "x-request-id" if value.len() == 32 => id = Some(std::mem::replace(value, "id".to_owned())),
                    _ => {}
                }
            }
        }
        // A page of our own has it in its text.
        for message in &mut self.client {
            if let Some(id) = &id
                && let Ok(text) = std::str::from_utf8(&message.body)
            {
                message.body = text.replace(id.as_str(), "id").into_bytes();
            }
        }
        // Whether it has begun depends on which of the two is noticed first: the head, or what is wrong behind it.
        if exchange.end == End::Gone || exchange.has("broken chunk in the request") {
            self.backend.retain(|message| message.whole);
        }
        for message in self.backend.iter_mut().filter(|message| !message.whole) {
            assert!(exchange.body.starts_with(&message.body), "{exchange}: the backend got {message:?}");
            message.body.clear();
            message.trailers.clear();
        }
    }

    /// The last response, where it has begun.
    pub(crate) fn last(&self) -> Option<&Message> {
        self.client.last()
    }

    /// Both, as far as they differ.
    pub(crate) fn difference(ours: &Self, theirs: &Self) -> String {
        let mut text = String::new();
        if ours.client != theirs.client {
            let _ = writeln!(text, "--- our client\n{:#?}\n--- pingora's client\n{:#?}", ours.client, theirs.client);
        }
        if ours.finish != theirs.finish {
            let _ = writeln!(text, "--- our client's connection {:?}, pingora's {:?}", ours.finish, theirs.finish);
        }
        if ours.backend != theirs.backend {
            let _ = writeln!(text, "--- our backend\n{:#?}\n--- pingora's\n{:#?}", ours.backend, theirs.backend);
        }
        text
    }
}
