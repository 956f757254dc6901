//! Requests at a fixed rate, whatever became of earlier ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Load;
use super::failure::Failure;

/// Sends one request of a class.
pub(super) trait Client: Send + Sync + 'static {
    /// Sends request `number` and returns the name of the backend that answered, if it has one.
    fn request(&self, number: u64, deadline: Instant) -> impl Future<Output = Result<Option<String>, Failure>> + Send;
}

/// The planned moments of a class: each begins when it should, or as soon as possible afterwards.
pub(super) struct Pace {
    begun: Instant,
    rate: u32,
    next: u64,
}

impl Pace {
    /// `rate` moments in each second.
    pub(super) fn new(begun: Instant, rate: u32) -> Self {
        Self { begun, rate, next: 0 }
    }

    /// The number of the next moment and when it is. Computed from the beginning, so that no rounding adds up.
    pub(super) fn planned(&self) -> (u64, Instant) {
        let nanos = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        (self.next, self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Goes on to the one after it.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }
}

/// Sends requests until `stopped`, then waits for what is under way; each ends by its deadline.
pub(super) async fn open_loop<C: Client>(load: &Arc<Load>, client: C, mut stopped: watch::Receiver<bool>) {
    let client = Arc::new(client);
    let mut pace = Pace::new(Instant::now(), load.rate);
    let mut requests = JoinSet::new();
    let mut end = None;
    loop {
        let (number, planned) = pace.planned();
        // A busy machine may be late; what was planned before the end is sent all the same.
        if end.is_some_and(|end| planned > end) {
            break;
        }
        tokio::select! {
            biased;
            () = sleep_until(planned) => {}
            _ = stopped.wait_for(|stopped| *stopped), if end.is_none() => {
                end = Some(Instant::now());
                continue;
            }
            Some(_) = requests.join_next() => continue,
        }
        pace.advance();
        load.tally.started(planned);
        let (load, client) = (Arc::clone(load), Arc::clone(&client));
        requests.spawn(async move {
            match client.request(number, load.deadline(planned)).await {
                Ok(backend) => load.tally.ok(planned, backend),
                Err(failure) => load.tally.failed(planned, failure),
            }
        });
    }
    while requests.join_next().await.is_some() {}
}
