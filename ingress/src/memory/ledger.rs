//! How much is held for clients, as the workers count it.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::valve::Pressure;

/// What was refused for want of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A new connection.
    Connection,
    /// A new stream of HTTP/2.
    Stream,
    /// A request on a connection that was open.
    Request,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Stream, Self::Request];

    /// The word for metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Stream => "stream",
            Self::Request => "request",
        }
    }
}

/// What is held now, or by one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amounts {
    /// Exchanges under way.
    pub exchanges: i64,
    /// Bytes of their requests' heads.
    pub heads: i64,
    /// Bytes of bodies between two connections.
    pub bodies: i64,
}

impl Amounts {
    /// All bytes.
    pub fn bytes(self) -> i64 {
        self.heads + self.bodies
    }
}

/// The counters of one worker. A line of the cache of their own, since no other worker writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    exchanges: AtomicI64,
    heads: AtomicI64,
    bodies: AtomicI64,
}

/// What the whole process holds, and what it may.
#[derive(Debug, Default)]
pub struct Ledger {
    limit: Option<u64>,
    used: AtomicU64,
    pressure: AtomicU8,
    refused: [AtomicU64; 3],
    workers: Mutex<Vec<Arc<Counts>>>,
}

impl Ledger {
    /// A ledger with a limit in bytes for the memory of the process; `None` is no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit, ..Self::default() })
    }

    /// What the process may have resident.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// What it had when it was looked at last; 0 where nobody looks, since there is no limit.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// How short memory is.
    pub fn pressure(&self) -> Pressure {
        Pressure::from_number(self.pressure.load(Relaxed))
    }

    /// How often something was refused.
    pub fn refused(&self, what: Refusal) -> u64 {
        self.refused.get(what as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// What all workers hold.
    pub fn amounts(&self) -> Amounts {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|counts| counts.amounts()).fold(Amounts::default(), |sum, one| Amounts {
            exchanges: sum.exchanges + one.exchanges,
            heads: sum.heads + one.heads,
            bodies: sum.bodies + one.bodies,
        })
    }

    /// The account of another worker.
    pub(crate) fn account(self: &Arc<Self>) -> Arc<Account> {
        let counts = Arc::new(Counts::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(counts.clone());
        Arc::new(Account { ledger: self.clone(), counts })
    }

    /// Takes what the process has resident, and how short that is.
    pub(super) fn note(&self, used: u64, pressure: Pressure) {
        self.used.store(used, Relaxed);
        self.pressure.store(pressure as u8, Relaxed);
    }

    /// Counts what was refused.
    pub(crate) fn refuse(&self, what: Refusal) {
        if let Some(count) = self.refused.get(what as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Counts {
    fn amounts(&self) -> Amounts {
        Amounts {
            exchanges: self.exchanges.load(Relaxed),
            heads: self.heads.load(Relaxed),
            bodies: self.bodies.load(Relaxed),
        }
    }
}

/// What one worker counts on.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    counts: Arc<Counts>,
}

/// Most bytes of a body that are read at once, and so what one exchange has on its way in each direction.
const PIECE: usize = 32 * 1024;
/// The same under pressure.
const SMALL_PIECE: usize = 4 * 1024;

impl Account {
    /// How short memory is.
    pub(crate) fn pressure(&self) -> Pressure {
        self.ledger.pressure()
    }

    /// What this worker holds.
    pub(crate) fn amounts(&self) -> Amounts {
        self.counts.amounts()
    }

    /// Most bytes of a body that are to be read at once.
    pub(crate) fn piece(&self) -> usize {
        if self.pressure() == Pressure::None { PIECE } else { SMALL_PIECE }
    }

    /// Counts an exchange with a head of so many bytes, for as long as the result lives.
    pub(crate) fn exchange(&self, head: usize) -> Begun<'_> {
        let head = signed(head);
        self.counts.exchanges.fetch_add(1, Relaxed);
        self.counts.heads.fetch_add(head, Relaxed);
        Begun { counts: &self.counts, head }
    }

    /// What one exchange holds of bodies: nothing yet.
    pub(crate) fn transit(&self) -> Transit<'_> {
        Transit { counts: &self.counts, bytes: 0 }
    }

    /// Nothing new may begin: counts what is refused for it.
    pub(crate) fn refuses(&self, what: Refusal) -> bool {
        let full = self.pressure() == Pressure::Full;
        if full {
            self.ledger.refuse(what);
        }
        full
    }

    /// Counts bytes of bodies that came or, if negative, went.
    pub(crate) fn bodies(&self, change: i64) {
        self.counts.bodies.fetch_add(change, Relaxed);
    }
}

/// An exchange under way.
#[derive(Debug)]
pub(crate) struct Begun<'a> {
    counts: &'a Counts,
    head: i64,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.counts.exchanges.fetch_sub(1, Relaxed);
        self.counts.heads.fetch_sub(self.head, Relaxed);
    }
}

/// The bytes of bodies that one exchange has on their way.
#[derive(Debug)]
pub(crate) struct Transit<'a> {
    counts: &'a Counts,
    bytes: i64,
}

impl Transit<'_> {
    /// Takes how many there are now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = signed(bytes);
        if bytes != self.bytes {
            self.counts.bodies.fetch_add(bytes - self.bytes, Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Transit<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// More than a signed number holds is more than there is.
pub(crate) fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// How high what a worker holds has been.
#[derive(Debug, Default)]
pub(super) struct Tide {
    exchanges: i64,
    bytes: i64,
}

/// A fall by fewer exchanges or bytes is not worth the work.
const FEW: i64 = 64;
const LITTLE: i64 = 1024 * 1024;

impl Tide {
    /// Whether much less is held than before, or memory is short anyway.
    pub(super) fn has_fallen(&mut self, now: Amounts, pressure: Pressure) -> bool {
        let few = self.exchanges >= FEW && now.exchanges <= self.exchanges / 2;
        let little = self.bytes >= LITTLE && now.bytes() <= self.bytes / 2;
        let fallen = few || little || pressure != Pressure::None;
        let before = if fallen { (0, 0) } else { (self.exchanges, self.bytes) };
        (self.exchanges, self.bytes) = (before.0.max(now.exchanges), before.1.max(now.bytes()));
        fallen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_not() {
        let ledger = Ledger::new(None);
        let (one, other) = (ledger.account(), ledger.account());
        let (first, second) = (one.exchange(100), other.exchange(50));
        let mut transit = one.transit();
        transit.set(4000);
        transit.set(1000);
        assert_eq!(ledger.amounts(), Amounts { exchanges: 2, heads: 150, bodies: 1000 });
        drop((first, transit));
        assert_eq!(ledger.amounts(), Amounts { exchanges: 1, heads: 50, bodies: 0 });
        drop(second);
        assert_eq!(ledger.amounts(), Amounts::default());
    }

    #[test]
    fn nothing_is_refused_unless_memory_is_full() {
        let ledger = Ledger::new(Some(100));
        let account = ledger.account();
        for (pressure, refuses, piece) in
            [(Pressure::None, false, PIECE), (Pressure::Tight, false, SMALL_PIECE), (Pressure::Full, true, SMALL_PIECE)]
        {
            ledger.note(1, pressure);
            assert_eq!(account.refuses(Refusal::Stream), refuses);
            assert_eq!(account.piece(), piece);
        }
        assert_eq!(Refusal::ALL.map(|what| ledger.refused(what)), [0, 1, 0]);
    }

    #[test]
    fn memory_is_given_back_once_behind_each_fall() {
        let mut tide = Tide::default();
        let at = |exchanges, bodies| Amounts { exchanges, heads: 0, bodies };
        let calm = Pressure::None;
        let seen = [
            (at(10, 0), false),
            (at(0, 0), false),
            (at(1000, 500), false),
            (at(600, 500), false),
            (at(400, 500), true),
            (at(300, 500), false),
            (at(0, 0), true),
            (at(0, 5 << 20), false),
            (at(0, 0), true),
            (at(0, 0), false),
        ];
        for (step, (now, fallen)) in seen.into_iter().enumerate() {
            assert_eq!(tide.has_fallen(now, calm), fallen, "step {step}");
        }
        assert!(tide.has_fallen(at(0, 0), Pressure::Tight));
    }
}
