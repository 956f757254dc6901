//! What the process holds for its clients, how much it may, and what happens as that runs short.
//!
//! Each worker counts on counters of its own: heads of requests, and pieces of bodies between two connections. A thread
//! compares what the whole process has resident with the limit, and the [`Pressure`] it finds is one number that the
//! data path looks at: first less is read at a time, and then nothing new is begun. What is under way is never ended for
//! the sake of memory.

mod ledger;
mod limit;
mod valve;

pub use ledger::{Amounts, Ledger, Refusal};
pub use limit::{LimitError, MemoryLimit};
pub use valve::Pressure;

pub(crate) use ledger::{Account, Transit, signed};
pub(crate) use valve::watch;

use std::sync::Arc;
use std::time::Duration;

/// How often a worker looks whether there is memory to give back.
const LOOK: Duration = Duration::from_secs(1);

/// Gives memory back to the system, on the worker that had it, once what was under way on it is over: the allocator does
/// so by itself only while it works.
pub(crate) async fn give_back(account: Arc<Account>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tide = ledger::Tide::default();
    loop {
        every.tick().await;
        if tide.has_fallen(account.amounts(), account.pressure()) {
            landfall_shared::memory::give_back();
        }
    }
}
