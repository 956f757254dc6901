//! Waiting for a condition, with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition: short beside every latency that is measured here.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks until `condition` gives a value, and returns it with the time that passed.
///
/// After `limit` it is an error that says `what` was awaited and what the last look saw.
pub async fn until<T, F, Fut>(limit: Duration, what: &str, mut condition: F) -> Result<(T, Duration)>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let begun = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return Ok((value, begun.elapsed())),
            Err(seen) if begun.elapsed() >= limit => bail!("waited {limit:?} for {what}: {seen:#}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
