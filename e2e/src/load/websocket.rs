//! WebSockets that stay open, with messages through each at a fixed rate.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::failure::{Failure, Kind};
use super::pace::Pace;
use super::{Load, fresh};
use crate::echo::BACKEND;

/// Where the echo backend's sockets are opened; it takes any path.
const PATH: &str = "/load/socket";

/// Sends messages until `stopped`, then waits for what is under way.
pub(super) async fn run(load: &Arc<Load>, stopped: watch::Receiver<bool>) {
    let begun = Instant::now();
    let sockets = u32::try_from(load.plan.kept).unwrap_or(u32::MAX).min(load.rate);
    let mut running = JoinSet::new();
    for index in 0..sockets {
        // The rate is that of all sockets together; what does not divide goes to the first ones.
        let rate = load.rate / sockets + u32::from(index < load.rate % sockets);
        // Spread, so that they don't all send at once.
        let begun = begun + std::time::Duration::from_secs(1) * index / load.rate;
        let kept =
            Kept { load: Arc::clone(load), index, under_way: VecDeque::new(), label: String::new(), backend: None };
        running.spawn(kept.run(Pace::new(begun, rate), stopped.clone()));
    }
    while running.join_next().await.is_some() {}
}

type Socket = WebSocketStream<TcpStream>;

/// One socket that is opened again whenever it closes.
struct Kept {
    load: Arc<Load>,
    index: u32,
    /// Messages without an answer, in the order in which they were sent.
    under_way: VecDeque<(u64, Instant)>,
    label: String,
    /// Who is at the other end, if it says so.
    backend: Option<String>,
}

/// What happened to a socket.
enum Event {
    Stopped,
    Due,
    Overdue,
    Heard(Option<Result<Message, Error>>),
}

impl Kept {
    async fn run(mut self, mut pace: Pace, mut stopped: watch::Receiver<bool>) {
        let mut socket = None;
        let mut stopping = false;
        while !(stopping && self.under_way.is_empty()) {
            let (number, planned) = pace.planned();
            let open = match &mut socket {
                Some(open) => open,
                None => match self.open().await {
                    Ok(open) => socket.insert(open),
                    Err(failure) => {
                        self.fail_all(planned, &failure);
                        // Asked again when the next message is due, not as fast as it fails.
                        pace.advance();
                        sleep_until(planned).await;
                        stopping = stopping || *stopped.borrow();
                        continue;
                    }
                },
            };
            let overdue = self.under_way.front().map(|(_, planned)| self.load.deadline(*planned));
            let event = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped), if !stopping => Event::Stopped,
                heard = open.next() => Event::Heard(heard),
                () = sleep_until(overdue.unwrap_or(planned)), if overdue.is_some() => Event::Overdue,
                () = sleep_until(planned), if !stopping => Event::Due,
            };
            let kept = match event {
                Event::Stopped => {
                    stopping = true;
                    true
                }
                Event::Due => {
                    pace.advance();
                    self.load.tally.started(planned);
                    self.under_way.push_back((number, planned));
                    self.send(open, number, planned).await
                }
                Event::Overdue => {
                    self.fail_all(Instant::now(), &Failure::new(Kind::Timeout, "no message came back in time"));
                    false
                }
                Event::Heard(heard) => self.heard(heard),
            };
            if !kept {
                socket = None;
            }
        }
        if let Some(mut open) = socket {
            // Whoever waits for the other side to close waits for nothing that is measured.
            let _ = timeout_at(self.load.deadline(Instant::now()), open.close(None)).await;
        }
    }

    /// A socket on which everything under way was sent again.
    async fn open(&mut self) -> Result<Socket, Failure> {
        let first = self.under_way.front().map_or_else(Instant::now, |(_, planned)| *planned);
        let deadline = self.load.deadline(first);
        let (stream, label) = fresh::connect(&self.load, deadline).await?;
        let url = format!("ws://{}{PATH}", self.load.plan.host);
        let opened = timeout_at(deadline, client_async(url, stream)).await;
        let opened = opened.map_err(|_| Failure::new(Kind::Handshake, "no WebSocket in time").on(&label))?;
        let (mut socket, answer) = opened.map_err(|error| Failure::of(Kind::Handshake, &error).on(&label))?;
        self.label = label;
        self.backend = answer.headers().get(BACKEND).and_then(|name| name.to_str().ok()).map(str::to_owned);
        for (number, planned) in self.under_way.clone() {
            self.send(&mut socket, number, planned).await;
        }
        Ok(socket)
    }

    /// Whether the socket is worth keeping. Reading says best what is wrong with it.
    async fn send(&self, socket: &mut Socket, number: u64, planned: Instant) -> bool {
        let message = Message::text(self.text(number));
        !matches!(timeout_at(self.load.deadline(planned), socket.send(message)).await, Err(_elapsed))
    }

    fn text(&self, number: u64) -> String {
        format!("socket {} message {number}", self.index)
    }

    /// Whether the socket is worth keeping.
    fn heard(&mut self, heard: Option<Result<Message, Error>>) -> bool {
        let failure = match heard {
            Some(Ok(Message::Text(text))) => return self.echoed(text.as_str()),
            Some(Ok(Message::Close(frame))) => {
                self.load.tally.closed_by_server();
                let code = frame.as_ref().map(|frame| frame.code);
                if matches!(code, Some(CloseCode::Away | CloseCode::Restart)) {
                    self.load.tally.reconnected();
                    return false;
                }
                Failure::new(Kind::Lost, format!("closed with {code:?}"))
            }
            Some(Ok(_)) => return true,
            Some(Err(error)) => Failure::of(Kind::Lost, &error),
            None => Failure::new(Kind::Lost, "closed without a word"),
        };
        self.load.tally.closed_by_server();
        self.fail_all(Instant::now(), &failure);
        false
    }

    fn echoed(&mut self, text: &str) -> bool {
        let Some((number, planned)) = self.under_way.pop_front() else {
            return true;
        };
        if text == self.text(number) {
            self.load.tally.ok(planned, self.backend.clone());
            return true;
        }
        self.under_way.push_front((number, planned));
        self.fail_all(
            Instant::now(),
            &Failure::new(Kind::Answer, format!("not the answer to message {number}: {text}")),
        );
        false
    }

    /// A lost socket fails whatever was under way on it. With nothing under way the loss itself is the failure: a
    /// user of the socket would have noticed it.
    fn fail_all(&mut self, now: Instant, failure: &Failure) {
        let failure = failure.clone().on(&self.label);
        if self.under_way.is_empty() {
            self.load.tally.started(now);
            self.under_way.push_back((0, now));
        }
        for (_, planned) in self.under_way.drain(..) {
            self.load.tally.failed(planned, failure.clone());
        }
    }
}
