//! The differences between both carriers that are meant to be there, each by name.

use super::message::{Framing, Message};
use super::script::{End, Exchange};
use super::seen::{Finish, Seen};

/// A difference.
pub(crate) struct Known {
    /// What differs.
    pub(crate) name: &'static str,
    /// Whether each run of usual length meets it.
    pub(crate) is_usual: bool,
    /// Makes both the same in this respect, where they differ as the name says; leaves them alone otherwise.
    pub(crate) settle: fn(&Exchange, ours: &mut Seen, theirs: &mut Seen),
}

/// Messages to the client that stand beside each other.
fn pairs<'a>(ours: &'a mut Seen, theirs: &'a mut Seen) -> impl Iterator<Item = (&'a mut Message, &'a mut Message)> {
    ours.client.iter_mut().zip(&mut theirs.client)
}

fn is_bad_gateway(seen: &Seen) -> bool {
    seen.last().is_some_and(|last| last.status() == 502)
}

const ENDED: &str = "a kept connection ends under a request that may not be sent again";
const LEFT: &str = "a client leaves in the moment in which its request is passed on";

/// Differences that are seldom met; more often than in one of a thousand exchanges they would be faults.
pub(crate) const RARE: [&str; 2] = [ENDED, LEFT];

/// All of them.
pub(crate) const KNOWN: &[Known] = &[
    // RFC 9110 section 15.2: a client can do without interim responses, which may be discarded.
    Known {
        name: "pingora drops interim responses in front of an answer that it refuses",
        is_usual: true,
        settle: |_, ours, theirs| {
            if is_bad_gateway(ours) && is_bad_gateway(theirs) && theirs.client.len() == 1 {
                ours.client.drain(..ours.client.len() - 1);
            }
        },
    },
    // RFC 9110 section 6.2: who passes a message on sends a version of its own.
    Known {
        name: "pingora passes on the version of HTTP/1.0",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (_, theirs) in pairs(ours, theirs) {
                if let Some(rest) = theirs.first.strip_prefix("HTTP/1.0 ") {
                    theirs.first = format!("HTTP/1.1 {rest}");
                }
            }
        },
    },
    // RFC 9112 section 9.3: a connection of HTTP/1.1 is kept unless it is said not to be, so nothing needs to be said.
    Known {
        name: "pingora says keep-alive to clients of HTTP/1.1",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                if ours.field("connection").is_none() && theirs.field("connection") == Some("keep-alive") {
                    theirs.remove("connection");
                }
            }
        },
    },
    // RFC 9112 section 4: a client should ignore the reason phrase. Ours is that of the registry.
    Known {
        name: "pingora passes on the reason phrase",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                if ours.first.split(' ').take(2).eq(theirs.first.split(' ').take(2)) {
                    theirs.first.clone_from(&ours.first);
                }
            }
        },
    },
    // RFC 9110 section 6.5.1: trailers may be dropped. Ours passes them on.
    Known {
        name: "pingora drops trailers",
        is_usual: true,
        settle: |_, ours, theirs| {
            let backend = ours.backend.iter_mut().zip(&theirs.backend);
            for (ours, theirs) in ours.client.iter_mut().zip(&theirs.client).chain(backend) {
                if theirs.trailers.is_empty() && ours.framing == theirs.framing {
                    ours.trailers.clear();
                    ours.remove("trailer");
                }
            }
        },
    },
    // RFC 9112 section 6.1: the answer to HEAD may say how the body would be coded, and need not.
    Known {
        name: "pingora passes on the coding of a body that is not there",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                if theirs.framing == Framing::None && ours.field("transfer-encoding").is_none() {
                    theirs.remove("transfer-encoding");
                }
            }
        },
    },
    // RFC 9112 section 5.2: such an answer is replaced by a 502, as ours does, or the fold by spaces.
    Known {
        name: "pingora unfolds a field of an answer",
        is_usual: true,
        settle: |exchange, ours, theirs| {
            let unfolds = theirs.last().is_some_and(|last| last.field("x-fold") == Some("a b"));
            if exchange.has("folded field in the answer") && is_bad_gateway(ours) && unfolds {
                *theirs = ours.clone();
            }
        },
    },
    // RFC 9112 section 9.3: an answer without a body ends where its head does, whatever codes a body would have.
    Known {
        name: "pingora closes behind the coded answer to a HEAD of HTTP/1.0",
        is_usual: false,
        settle: |exchange, ours, theirs| {
            let is_head = exchange.method == "HEAD" && exchange.has("request of HTTP/1.0");
            let says = |seen: &Seen| seen.last().and_then(|last| last.field("connection")).map(str::to_owned);
            let differs = says(ours).as_deref() == Some("keep-alive") && says(theirs).as_deref() == Some("close");
            if is_head && differs && theirs.finish == Finish::Closed {
                ours.finish = Finish::Closed;
                for (ours, theirs) in pairs(ours, theirs) {
                    ours.remove("connection");
                    theirs.remove("connection");
                }
            }
        },
    },
    // RFC 9110 section 6.6.1 knows one of them; ours passes on what there is.
    Known {
        name: "pingora makes one Date of several",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                let count = |message: &Message| message.fields.iter().filter(|(name, _)| name == "date").count();
                if count(ours) > 1 && count(theirs) == 1 {
                    ours.remove("date");
                    theirs.remove("date");
                }
            }
        },
    },
    // RFC 9112 section 8: what there is of an incomplete body is the recipient's to judge. How much that is depends on
    // what was read together.
    Known {
        name: "another part of a broken body gets through",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                let same = ours.body.starts_with(&theirs.body) || theirs.body.starts_with(&ours.body);
                if !ours.whole && !theirs.whole && same {
                    ours.body.clone_from(&theirs.body);
                }
            }
        },
    },
    // RFC 9112 section 8: the end of the connection would make it a whole body, so ours ends in a reset.
    Known {
        name: "pingora ends a broken body without a length as a whole one",
        is_usual: false,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                let until_end = ours.framing == Framing::UntilEnd && theirs.framing == Framing::UntilEnd;
                if until_end && !ours.whole && theirs.whole && theirs.body.starts_with(&ours.body) {
                    theirs.whole = false;
                    ours.body.clone_from(&theirs.body);
                }
            }
        },
    },
    // RFC 9112 section 7.1.2: what is no field is no trailer. Ours takes the whole answer for broken.
    Known {
        name: "pingora does not look at trailers",
        is_usual: false,
        settle: |exchange, ours, theirs| {
            let broken = exchange.has("broken chunk in the answer") && ours.finish == Finish::Closed;
            let Some(right) = theirs.last().filter(|right| right.whole) else { return };
            let is_part = match ours.last() {
                Some(left) => !left.whole && right.body.starts_with(&left.body),
                // Of HTTP/2, where the reset of the stream overtakes the whole of it.
                None => right.first.starts_with("HTTP/2 "),
            };
            if broken && is_part {
                *theirs = ours.clone();
            }
        },
    },
    // RFC 9112 section 6.3: a request without framing has no body, which is as much as an empty one has.
    Known {
        name: "pingora repeats a request with an empty chunked body as one without a body",
        is_usual: false,
        settle: |_, ours, theirs| {
            for (ours, theirs) in ours.backend.iter().zip(&mut theirs.backend).skip(1) {
                let same = (ours.framing, theirs.framing) == (Framing::Chunked, Framing::None);
                if same && ours.whole && ours.body.is_empty() {
                    theirs.clone_from(ours);
                }
            }
        },
    },
    // RFC 9110 section 9.2.2: what was sent on a connection that was kept is sent again, since the backend may have
    // closed it before. Which connection was kept depends on what was over first.
    Known {
        name: "a request goes out on a kept connection with one, and on a new one with the other",
        is_usual: false,
        settle: |exchange, ours, theirs| {
            let closes = exchange.answers.first().is_some_and(|answer| answer.bytes.is_empty());
            if closes && ours.backend.len() != theirs.backend.len() && ours.backend.first() == theirs.backend.first() {
                *theirs = ours.clone();
            }
        },
    },
    // The same where it may not be sent again: then the client is told, and the backend has seen nothing of it. It takes
    // a backend that closes a connection in the moment in which the request is written.
    Known {
        name: ENDED,
        is_usual: false,
        settle: |exchange, ours, theirs| {
            let unseen = |seen: &Seen| seen.backend.is_empty() && is_bad_gateway(seen);
            let is_repeatable = matches!(exchange.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
            if !is_repeatable && unseen(ours) != unseen(theirs) {
                *theirs = ours.clone();
            }
        },
    },
    // RFC 9113 section 8.7: a stream that is reset may have been looked at or not, so one backend has seen the request
    // and the other has not.
    Known {
        name: LEFT,
        is_usual: false,
        settle: |exchange, ours, theirs| {
            if exchange.end == End::Gone && ours.backend.is_empty() != theirs.backend.is_empty() {
                theirs.backend.clone_from(&ours.backend);
            }
        },
    },
    // RFC 9110 section 5.3: several fields of a name are one list.
    Known {
        name: "pingora looks at the first Connection field of a request only",
        is_usual: true,
        settle: |exchange, ours, theirs| {
            if !exchange.has("several Connection fields") {
                return;
            }
            if matches!((ours.finish, theirs.finish), (Finish::Open, Finish::Closed) | (Finish::Closed, Finish::Open)) {
                theirs.finish = ours.finish;
            }
            for (ours, theirs) in pairs(ours, theirs) {
                ours.remove("connection");
                theirs.remove("connection");
            }
        },
    },
    // RFC 9112 section 6.3: such an answer ought to be an error. Ours is a 502.
    Known {
        name: "pingora takes an answer with a length and chunks",
        is_usual: true,
        settle: |exchange, ours, theirs| {
            if exchange.has("length and chunks in the answer") && is_bad_gateway(ours) && !is_bad_gateway(theirs) {
                *theirs = ours.clone();
            }
        },
    },
    // RFC 9110 section 6.6.2: the field names trailers that may come. Where none can, ours does not announce them.
    Known {
        name: "pingora announces trailers that do not come",
        is_usual: true,
        settle: |_, ours, theirs| {
            for (ours, theirs) in pairs(ours, theirs) {
                if ours.field("trailer").is_none() && ours.trailers.is_empty() {
                    theirs.remove("trailer");
                }
            }
        },
    },
    // RFC 9113 section 5.4.2: whoever resets a stream sends nothing more on it, so that what waited is dropped: how much
    // of a broken answer a client has got by then depends on what was sent together.
    Known {
        name: "a reset of a stream overtakes what was to be sent before",
        is_usual: false,
        settle: |_, ours, theirs| {
            let broken = |seen: &Seen| seen.finish == Finish::Closed && seen.last().is_none_or(|last| !last.whole);
            let of_http2 = ours.last().or(theirs.last()).is_some_and(|last| last.first.starts_with("HTTP/2 "));
            if of_http2 && broken(ours) && broken(theirs) && (ours.client.is_empty() || theirs.client.is_empty()) {
                theirs.client.clone_from(&ours.client);
            }
        },
    },
];
