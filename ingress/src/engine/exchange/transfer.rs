//! The bytes of one attempt, both ways at once, within their time limits.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use landfall_ingress_model::pipeline::{Forward, Trailers, Upgraded, response_edits};
use tokio::time::Instant;

use super::floor::Floor;
use super::pace::Pacer;
use super::reply::is_grpc;
use super::upload::{Upload, UploadError, Waits};
use super::{Failure, Record, Request, Shared};
use crate::engine::body::{Length, Part};
use crate::engine::client::{Client, Presence};
use crate::engine::coding::Encoder;
use crate::engine::framing::Malformed;
use crate::engine::timer::Timer;
use crate::engine::upstream::{Answer, AnswerHead, Outbound, Upstream, UpstreamError};
use crate::memory::Transit;

/// How long an answer may still come after the client has closed its sending side.
///
/// Most clients that close are gone, but some only say that they have nothing more to ask (RFC 9112 section 9.6).
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(1);
/// How often a client is looked for that can't be heard, since what it sends is not taken.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes that have to pass before a client counts as fast again.
const FLOWING: usize = 128 * 1024;
/// Bytes of an answer that are read at once for one that is not.
const CAUTIOUS: usize = 8 * 1024;

/// One attempt at one endpoint.
pub(super) struct Transfer<'t, 'c> {
    engine: &'t Shared,
    request: &'t Request,
    forward: &'t Forward,
    client: &'t mut Client<'c>,
    upstream: &'t mut Upstream,
    upload: &'t mut Upload,
    timer: &'t mut Timer,
    /// When something moved last in either direction, as far as it was looked at the clock since.
    up_at: Instant,
    down_at: Instant,
    up_moved: bool,
    down_moved: bool,
    up_waits: Waits,
    half_closed: Option<Instant>,
    /// When to look for the client next, where it can't be heard.
    look_at: Option<Instant>,
    /// Why the endpoint took no more of the request.
    broken: Option<UpstreamError>,
    pacer: Option<Box<Pacer>>,
    /// What is held for this exchange.
    transit: Transit<'t>,
    /// Bytes that have passed since the client had to be waited for last.
    flowing: usize,
    /// How fast the client sends and takes.
    sending: Watched,
    taking: Watched,
    /// The client moves less than it has to.
    slow: bool,
}

/// The client's half of one direction.
#[derive(Default)]
struct Watched {
    floor: Floor,
    /// Bytes that it had moved at the last look.
    moved: u64,
    /// It was waited for then.
    waited_for: bool,
}

impl Watched {
    /// Notes what it has moved in all, `gap` after it moved something before; false where that is too slow.
    fn holds(&mut self, moved: u64, gap: Duration, rate: Option<NonZeroU64>, span: Duration) -> bool {
        let bytes = moved - std::mem::replace(&mut self.moved, moved);
        match rate.filter(|_| self.waited_for) {
            Some(rate) => self.floor.holds(gap, bytes, rate, span),
            None => true,
        }
    }
}

impl<'t, 'c> Transfer<'t, 'c> {
    #[expect(clippy::too_many_arguments, reason = "each is another part of one exchange")]
    pub(super) fn new(
        engine: &'t Shared,
        request: &'t Request,
        forward: &'t Forward,
        client: &'t mut Client<'c>,
        upstream: &'t mut Upstream,
        upload: &'t mut Upload,
        timer: &'t mut Timer,
        now: Instant,
    ) -> Self {
        let (received, taken) = (upload.received(), client.progress());
        Self {
            engine,
            request,
            forward,
            client,
            upstream,
            upload,
            timer,
            up_at: now,
            down_at: now,
            up_moved: false,
            down_moved: false,
            up_waits: Waits::Nobody,
            half_closed: None,
            look_at: None,
            broken: None,
            pacer: None,
            transit: engine.memory.transit(),
            flowing: FLOWING,
            sending: Watched { moved: received, ..Watched::default() },
            taking: Watched { moved: taken, ..Watched::default() },
            slow: false,
        }
    }

    /// Sends the request until the head of the response has come.
    pub(super) fn head(
        mut self,
        request: &Outbound<'_>,
        record: &mut Record<'_>,
    ) -> impl Future<Output = Result<AnswerHead, Failure>> + Send {
        // Out here, since an `async fn` would hold all of this twice, and thousands of requests wait at a time.
        let asked = self.upstream.request(request);
        async move {
            asked?;
            let head = poll_fn(|cx| self.poll_head(cx)).await?;
            record.answered();
            if head.status == StatusCode::SWITCHING_PROTOCOLS && !self.forward.upgrade {
                return Err(UpstreamError::Malformed(Malformed("the endpoint switches protocols unasked")).into());
            }
            Ok(head)
        }
    }

    /// Passes the body of the response on, and what is left of the request's.
    pub(super) fn body(
        mut self,
        length: Length,
        mut encoder: Option<Box<Encoder>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let mut over = matches!(length, Length::None | Length::Known(0));
        let pace = self.forward.route.policy.pace.filter(|_| !over);
        self.pacer = pace.map(|pace| Box::new(Pacer::new(pace, self.down_at)));
        async move { poll_fn(|cx| self.poll_body(&mut over, encoder.as_deref_mut(), cx)).await }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, Failure>> {
        self.poll_upload(cx)?;
        if self.forward.route.policy.read_timeout.is_zero() && self.up_waits == Waits::Nobody {
            return Poll::Ready(Err(Failure::UpstreamTimedOut));
        }
        loop {
            match self.upstream.poll_answer(cx) {
                Poll::Ready(Ok(Answer::Interim(status, fields))) => {
                    let edits = response_edits(status, &fields, Upgraded::No, Trailers::Drop);
                    self.client.inform(status, &fields, &edits);
                    self.down_moved = true;
                }
                Poll::Ready(Ok(Answer::Head(head))) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broken.take().unwrap_or(error).into())),
                Poll::Pending => break,
            }
        }
        // An interim response; whether it is sent or on its way, the final one is awaited.
        let _ = self.client.poll_flush(cx)?;
        self.rest();
        self.look_at_clock(self.up_waits == Waits::Client && !self.client.waits(), false);
        if self.slow {
            return Poll::Ready(Err(Failure::ClientStalled("the request body comes slower than it has to")));
        }
        let deadline = match self.up_waits {
            Waits::Client if !self.client.waits() => self.up_at + self.engine.limits.body_timeout,
            Waits::Client => self.up_at + self.forward.route.policy.read_timeout,
            Waits::Endpoint => self.up_at + self.forward.route.policy.write_timeout,
            Waits::Nobody => self.up_at.max(self.down_at) + self.forward.route.policy.read_timeout,
        };
        ready!(self.poll_wait(deadline, true, cx))?;
        Poll::Ready(Err(if self.up_waits == Waits::Client && !self.client.waits() {
            Failure::ClientStalled("the request body did not arrive in time")
        } else {
            Failure::UpstreamTimedOut
        }))
    }

    fn poll_body(
        &mut self,
        over: &mut bool,
        mut encoder: Option<&mut Encoder>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        self.poll_upload(cx)?;
        let mut paused = None;
        let waits = loop {
            if *over && encoder.as_ref().is_none_or(|encoder| encoder.is_empty()) {
                break Waits::Nobody;
            }
            if self.client.poll_room(cx)?.is_pending() {
                self.flowing = 0;
                break Waits::Client;
            }
            if let Some(pacer) = &mut self.pacer
                && pacer.poll_ready(cx).is_pending()
            {
                paused = Some(pacer.due());
                break Waits::Client;
            }
            if let Some(part) = encoder.as_mut().and_then(|encoder| encoder.next()) {
                self.count(&part);
                self.client.write(part)?;
                continue;
            }
            self.upstream.set_appetite(self.appetite());
            let Poll::Ready(part) = self.upstream.poll_part(cx) else {
                if let Some(encoder) = &mut encoder
                    && encoder.flush()
                {
                    continue;
                }
                break Waits::Endpoint;
            };
            let part = part?;
            *over = part.is_final();
            self.down_moved = true;
            self.flowing = self.flowing.saturating_add(part.len());
            if let Some(encoder) = &mut encoder {
                encoder.take(part);
            } else {
                self.count(&part);
                self.client.write(part)?;
            }
        };
        let flushed = self.client.poll_flush(cx)?.is_ready();
        if *over && flushed {
            return Poll::Ready(Ok(()));
        }
        self.rest();
        // A client that takes a part of a piece is not idle.
        self.down_moved |= self.client.progress() != self.taking.moved;
        self.look_at_clock(false, paused.is_none() && (waits == Waits::Client || !flushed));
        if self.slow {
            return Poll::Ready(Err(Failure::ClientStalled("the client takes the response slower than it has to")));
        }
        if let Some(due) = paused {
            // Nobody is too slow before that.
            self.down_at = self.down_at.max(due);
        }
        let limit = if waits == Waits::Endpoint && flushed {
            self.forward.route.policy.read_timeout
        } else {
            self.engine.limits.client_timeout
        };
        let quiet = waits == Waits::Endpoint;
        ready!(self.poll_wait(self.up_at.max(self.down_at) + limit, quiet, cx))?;
        Poll::Ready(Err(if waits == Waits::Endpoint && flushed {
            Failure::UpstreamTimedOut
        } else {
            Failure::ClientStalled("the client took nothing of the response in time")
        }))
    }

    fn count(&mut self, part: &Part) {
        if let Some(pacer) = &mut self.pacer {
            pacer.sent(part.len());
        }
    }

    /// Passes on what there is of the request. That an endpoint takes no more of it is no failure yet: it may have
    /// answered.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        if self.upload.is_over() {
            self.up_waits = Waits::Nobody;
            return Ok(());
        }
        self.client.set_appetite(self.engine.memory.piece());
        let outcome = self.upload.poll(self.client, self.upstream, &mut self.up_moved, &mut self.up_waits, cx);
        match outcome {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(UploadError::Client(error))) => Err(error.into()),
            Poll::Ready(Err(UploadError::TooLarge)) => Err(Failure::TooLarge),
            Poll::Ready(Err(UploadError::Endpoint(error))) => {
                self.upload.give_up();
                self.up_waits = Waits::Nobody;
                self.broken = Some(error);
                Ok(())
            }
        }
    }

    /// How much is to be read from the endpoint at once: little from behind a client that has to be waited for.
    fn appetite(&self) -> usize {
        let most = self.engine.memory.piece();
        if self.flowing < FLOWING { most.min(CAUTIOUS) } else { most }
    }

    /// Holds what is needed while somebody is waited for, and counts that.
    fn rest(&mut self) {
        self.client.compact();
        self.upstream.compact();
        self.transit.set(self.client.held() + self.upstream.held() + self.upload.held());
    }

    /// The time counts only for whoever waits: for the client where it is asked to send, or to take.
    fn look_at_clock(&mut self, sends: bool, takes: bool) {
        if self.up_moved || self.down_moved {
            let (now, limits) = (Instant::now(), &self.engine.limits);
            let since = |at: &mut Instant| now.saturating_duration_since(std::mem::replace(at, now));
            let mut holds = true;
            if std::mem::take(&mut self.up_moved) {
                holds &= self.sending.holds(
                    self.upload.received(),
                    since(&mut self.up_at),
                    limits.min_rate,
                    limits.body_timeout,
                );
            }
            if std::mem::take(&mut self.down_moved) {
                holds &= self.taking.holds(
                    self.client.progress(),
                    since(&mut self.down_at),
                    limits.min_rate,
                    limits.client_timeout,
                );
            }
            // A call may be a conversation, in which both sides are as slow as they like.
            self.slow |= !holds && !is_grpc(&self.request.fields);
        }
        (self.sending.waited_for, self.taking.waited_for) = (sends, takes);
    }

    /// Ready at `deadline`, or with the news that the client is gone. A client that has only closed its sending side
    /// counts as gone when it has to wait: `quiet`.
    fn poll_wait(&mut self, deadline: Instant, quiet: bool, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.client.presence(cx) {
            Presence::Here => {}
            Presence::HalfClosed if !quiet => {}
            Presence::HalfClosed => {
                self.half_closed.get_or_insert_with(Instant::now);
            }
            Presence::Gone => return Poll::Ready(Err(left())),
        }
        let deaf = matches!(self.up_waits, Waits::Endpoint) || self.upload.is_broken();
        loop {
            let grace = self.half_closed.map(|since| since + HALF_CLOSED_GRACE);
            self.look_at = deaf.then(|| self.look_at.unwrap_or_else(|| Instant::now() + LOOK));
            let next = [grace, self.look_at].into_iter().flatten().fold(deadline, Instant::min);
            ready!(self.timer.poll_until(next, cx));
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(Ok(()));
            }
            if grace.is_some_and(|grace| now >= grace) || (deaf && self.client.has_hung_up()) {
                return Poll::Ready(Err(left()));
            }
            self.look_at = None;
        }
    }
}

fn left() -> Failure {
    Failure::ClientGone("the client left".to_owned())
}
