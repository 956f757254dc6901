//! How many connections there are, and may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// How many connections there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// Of one client address.
    pub per_client: Option<usize>,
}

/// Files that are no connections: listeners, the admin port, watches, name queries, what the runtimes need.
const OTHER_FILES: usize = 256;

impl ConnectionLimits {
    /// The limits as far as this many open files allow them; `idle` connections are kept to endpoints by all workers.
    ///
    /// A quarter is left to connections to endpoints: most clients are idle most of the time, and need none then.
    /// Where all ask at once the files run out all the same; idle connections are closed then, and newcomers wait.
    pub(super) fn within(self, files: usize, idle: usize) -> Self {
        let clients = files_for_connections(files).saturating_sub(idle_within(files, idle)) / 4 * 3;
        Self { total: self.total.min(clients.max(1)), ..self }
    }
}

fn files_for_connections(files: usize) -> usize {
    files.saturating_sub(OTHER_FILES.min(files / 2))
}

/// How many idle connections this many open files allow: where there are few, they give way to clients.
pub(super) fn idle_within(files: usize, idle: usize) -> usize {
    idle.min(files_for_connections(files) / 2)
}

impl Default for ConnectionLimits {
    /// 20,000 in all: at 15 KB for an idle TLS connection that is 300 MB at worst.
    fn default() -> Self {
        Self { total: 20_000, per_client: None }
    }
}

/// The connections there are. All workers share one.
#[derive(Debug, Default)]
pub(super) struct Live {
    connections: AtomicUsize,
    /// Connections and accept loops.
    holders: AtomicUsize,
    idle: Notify,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Live {
    /// Keeps [`Live::idle`] waiting.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.holders.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }

    /// Counts a connection, unless there are as many as may be.
    pub(super) fn admit(self: &Arc<Self>, limits: &ConnectionLimits) -> Option<Admission> {
        let below = |count: usize| (count < limits.total).then_some(count + 1);
        self.connections.try_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Admission { client: None, hold: self.hold() })
    }

    /// Connections now.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns once there is neither a connection nor an accept loop.
    pub(super) async fn idle(&self) {
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            if self.holders.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Something that is not over yet.
#[derive(Debug)]
pub(super) struct Hold(Arc<Live>);

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// A counted connection.
#[derive(Debug)]
pub(super) struct Admission {
    client: Option<IpAddr>,
    hold: Hold,
}

impl Admission {
    /// Counts it for its client too; false where the client has as many as it may.
    pub(super) fn of_client(&mut self, client: IpAddr, limits: &ConnectionLimits) -> bool {
        let Some(limit) = limits.per_client else { return true };
        let client = client.to_canonical();
        let mut clients = self.hold.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_default();
        if *count >= limit {
            return false;
        }
        *count += 1;
        self.client = Some(client);
        true
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let live = &self.hold.0;
        live.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client {
            let mut clients = live.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = clients.get_mut(&client) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&client);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_forgotten() {
        let live = Arc::new(Live::default());
        let limits = ConnectionLimits { total: 3, per_client: Some(1) };
        let client = IpAddr::from([192, 0, 2, 1]);
        let mut first = live.admit(&limits).unwrap();
        let mut second = live.admit(&limits).unwrap();
        assert!(first.of_client(client, &limits));
        assert!(!second.of_client(client, &limits));
        let third = live.admit(&limits).unwrap();
        assert!(live.admit(&limits).is_none());
        drop(first);
        assert!(second.of_client(client, &limits));
        drop((second, third));
        assert_eq!(live.connections(), 0);
        assert!(live.clients.lock().unwrap().is_empty());
    }

    #[test]
    fn there_are_no_more_connections_than_files_for_them() {
        let within = |total, files, idle| ConnectionLimits { total, per_client: None }.within(files, idle).total;
        assert_eq!(within(65_536, 1 << 20, 640), 65_536);
        assert_eq!(within(65_536, 20_000, 640), 14_328);
        assert_eq!(within(100, 20_000, 640), 100);
        assert_eq!(within(65_536, 1_024, 640), 288);
        assert_eq!(within(65_536, 64, 640), 12);
        assert_eq!([20_000, 1_024, 200, 0].map(|files| idle_within(files, 640)), [640, 384, 50, 0]);
        for files in [0, 1, 16, 256, 300, 1024, 4096, 65_536] {
            assert!(within(usize::MAX, files, 640) * 4 <= (files * 3).max(4), "{files}");
        }
    }

    #[tokio::test]
    async fn idle_waits_for_the_last_one() {
        let live = Arc::new(Live::default());
        let (hold, connection) = (live.hold(), live.admit(&ConnectionLimits::default()).unwrap());
        let waiter = tokio::spawn({
            let live = live.clone();
            async move { live.idle().await }
        });
        tokio::task::yield_now().await;
        drop(hold);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(connection);
        waiter.await.unwrap();
    }
}
