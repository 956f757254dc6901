//! What the streams of one HTTP/2 connection hold together.
//!
//! HTTP/2 lets a client ask for a hundred answers and read none. Each stream alone may hold little, but all of them write
//! to one socket: so nothing more is read from backends while enough waits for it, and no more requests are taken while
//! the heads of those under way are too large. Both are bounded for the connection, however many streams it has.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use futures::task::AtomicWaker;

use crate::memory::{Account, Pressure, signed};

/// Bytes of answers that wait for the socket of one connection: enough to keep it busy between two turns.
const QUEUE: usize = 128 * 1024;
/// The same under pressure.
const SMALL_QUEUE: usize = 16 * 1024;
/// Bytes of the heads of requests under way on one connection: 100 heads of 5 KB. Beyond, a client that sends large
/// heads waits until answers were given.
const HEADS: usize = 512 * 1024;

/// What a client may send ahead on one connection at first, and once backends have taken as much: it doubles, as the
/// window of TCP does.
pub(super) const FIRST_WINDOW: u32 = 128 * 1024;
const LARGEST_WINDOW: u32 = 1024 * 1024;
/// The same under pressure: the least that there is (RFC 9113 section 6.9.2).
const LEAST_WINDOW: u32 = 65_535;

/// What the streams of one connection hold.
#[derive(Debug)]
pub(super) struct Load {
    account: Arc<Account>,
    queued: AtomicUsize,
    heads: AtomicUsize,
    /// Bytes of requests' bodies that were passed on.
    taken: AtomicUsize,
    /// Streams that wait for room in the queue, in their order.
    waiting: Mutex<VecDeque<(usize, Waker)>>,
    waits: AtomicUsize,
    streams: AtomicUsize,
    /// Whoever takes new streams.
    acceptor: AtomicWaker,
}

impl Load {
    pub(super) fn new(account: Arc<Account>) -> Arc<Self> {
        Arc::new(Self {
            account,
            queued: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            waiting: Mutex::default(),
            waits: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            acceptor: AtomicWaker::new(),
        })
    }

    /// Notes bytes of a request's body that are passed on.
    pub(super) fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Relaxed);
    }

    /// What the client may send ahead, if it is `window` so far.
    pub(super) fn window(&self, window: u32) -> u32 {
        if self.account.pressure() != Pressure::None {
            return LEAST_WINDOW;
        }
        if self.taken.load(Relaxed) < window as usize {
            return window.max(FIRST_WINDOW);
        }
        self.taken.store(0, Relaxed);
        window.saturating_mul(2).clamp(FIRST_WINDOW, LARGEST_WINDOW)
    }

    fn most_queued(&self) -> usize {
        if self.account.pressure() == Pressure::None { QUEUE } else { SMALL_QUEUE }
    }

    /// Ready when the heads under way leave room for another one.
    pub(super) fn poll_heads(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.heads.load(Relaxed) < HEADS {
            return Poll::Ready(());
        }
        self.acceptor.register(cx.waker());
        // It may have changed just before.
        if self.heads.load(Relaxed) < HEADS { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Counts a head for as long as the result lives.
    pub(super) fn head(self: &Arc<Self>, bytes: usize) -> HeadShare {
        self.heads.fetch_add(bytes, Relaxed);
        HeadShare { load: self.clone(), bytes }
    }

    /// Wakes streams for as many pieces as there is room for.
    fn call(&self) {
        if self.waits.load(Relaxed) == 0 {
            return;
        }
        let room = self.most_queued().saturating_sub(self.queued.load(Relaxed));
        let pieces = (room / self.account.piece()).max(1);
        let mut waiting = self.lock();
        let called: Vec<(usize, Waker)> = (0..pieces).map_while(|_| waiting.pop_front()).collect();
        self.waits.store(waiting.len(), Relaxed);
        drop(waiting);
        for (_, waker) in called {
            waker.wake();
        }
    }

    fn has_room(&self) -> bool {
        self.queued.load(Relaxed) < self.most_queued()
    }

    fn wait(&self, number: usize, cx: &Context<'_>) {
        let mut waiting = self.lock();
        if waiting.iter().all(|(other, _)| *other != number) {
            waiting.push_back((number, cx.waker().clone()));
            self.waits.store(waiting.len(), Relaxed);
        }
    }

    fn leave(&self, number: usize) {
        let mut waiting = self.lock();
        waiting.retain(|(other, _)| *other != number);
        self.waits.store(waiting.len(), Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(usize, Waker)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, bytes: usize) {
        self.account.bodies(-signed(bytes));
        let before = self.queued.fetch_sub(bytes, Relaxed);
        // Half of it is sent before more is asked for, so that not every frame wakes somebody.
        if before - bytes <= self.most_queued() / 2 {
            self.call();
        }
    }
}

/// The head of a request under way.
#[derive(Debug)]
pub(super) struct HeadShare {
    load: Arc<Load>,
    bytes: usize,
}

impl Drop for HeadShare {
    fn drop(&mut self) {
        let before = self.load.heads.fetch_sub(self.bytes, Relaxed);
        if before >= HEADS {
            self.load.acceptor.wake();
        }
    }
}

/// One stream's turn at the queue.
#[derive(Debug)]
pub(super) struct Turn {
    load: Arc<Load>,
    number: usize,
    place: Place,
}

/// Where a stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nowhere: it has not asked, or has written since.
    Aside,
    /// In the line.
    InLine,
    /// It was let out of the line and has not written yet.
    Called,
}

impl Turn {
    pub(super) fn new(load: &Arc<Load>) -> Self {
        let number = load.streams.fetch_add(1, Relaxed);
        Self { load: load.clone(), number, place: Place::Aside }
    }

    /// Ready when there is room for another piece.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.load.has_room() {
            if self.place == Place::InLine {
                self.load.leave(self.number);
                self.place = Place::Called;
            }
            return Poll::Ready(());
        }
        self.load.wait(self.number, cx);
        self.place = Place::InLine;
        Poll::Pending
    }

    /// Data that is handed to the connection.
    pub(super) fn piece(&mut self, data: Bytes) -> Piece {
        if data.is_empty() {
            return Piece::uncounted(data);
        }
        self.place = Place::Aside;
        self.load.queued.fetch_add(data.len(), Relaxed);
        self.load.account.bodies(signed(data.len()));
        Piece { queued: data.len(), data, load: Some(self.load.clone()) }
    }

    /// A stream that was called and has nothing to write leaves its turn to the next.
    pub(super) fn pass(&mut self) {
        if self.place == Place::Called {
            self.place = Place::Aside;
            if self.load.has_room() {
                self.load.call();
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.place != Place::Aside {
            self.load.leave(self.number);
            self.place = Place::Called;
            self.pass();
        }
    }
}

/// Data in the hands of an HTTP/2 connection, counted until it is sent or dropped.
#[derive(Debug)]
pub(super) struct Piece {
    data: Bytes,
    /// How much of it is counted.
    queued: usize,
    load: Option<Arc<Load>>,
}

impl Piece {
    /// Data that nobody counts.
    pub(super) fn uncounted(data: Bytes) -> Self {
        Self { data, queued: 0, load: None }
    }
}

impl Default for Piece {
    fn default() -> Self {
        Self::uncounted(Bytes::new())
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(load) = self.load.take() {
            load.sent(self.queued);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;
    use crate::memory::Ledger;

    #[derive(Default)]
    struct Called(AtomicBool);

    impl Wake for Called {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    /// A stream and whether it was woken.
    fn stream(load: &Arc<Load>) -> (Turn, Arc<Called>) {
        (Turn::new(load), Arc::default())
    }

    fn asks(stream: &mut (Turn, Arc<Called>)) -> bool {
        stream.1.0.store(false, Relaxed);
        let waker = Waker::from(stream.1.clone());
        stream.0.poll_room(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn a_full_queue_makes_streams_wait_and_calls_them_in_their_order() {
        let ledger = Ledger::new(None);
        let load = Load::new(ledger.account());
        let mut writer = stream(&load);
        let mut pieces: Vec<Piece> = (0..4).map(|_| writer.0.piece(Bytes::from(vec![0; 32 * 1024]))).collect();
        assert_eq!(ledger.amounts().bodies, 128 * 1024);
        let mut others: Vec<_> = (0..3).map(|_| stream(&load)).collect();
        for other in &mut others {
            assert!(!asks(other));
            assert!(!asks(other), "it stands in the line once");
        }
        pieces.pop();
        assert!(others.iter().all(|other| !other.1.0.load(Relaxed)), "half of it is sent first");
        pieces.pop();
        let called =
            |others: &[(Turn, Arc<Called>)]| others.iter().map(|other| other.1.0.load(Relaxed)).collect::<Vec<_>>();
        assert_eq!(called(&others), [true, true, false]);
        // The first has nothing to write and leaves its turn to the third.
        assert!(asks(&mut others[0]));
        others[0].0.pass();
        assert!(called(&others)[2]);
        drop(pieces);
        assert_eq!(ledger.amounts().bodies, 0);
    }

    #[test]
    fn whoever_takes_streams_waits_for_heads() {
        let load = Load::new(Ledger::new(None).account());
        let called: Arc<Called> = Arc::default();
        let waker = Waker::from(called.clone());
        let mut cx = Context::from_waker(&waker);
        let first = load.head(HEADS - 1);
        assert!(load.poll_heads(&mut cx).is_ready());
        let second = load.head(1);
        assert!(load.poll_heads(&mut cx).is_pending());
        drop(second);
        assert!(called.0.load(Relaxed));
        assert!(load.poll_heads(&mut cx).is_ready());
        drop(first);
    }
}
