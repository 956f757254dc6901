//! The accept loop of a listening socket, from its opening to the end of the drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_shared::drain::Drain;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

use super::limits::Live;
use super::socket::{heed_all, ignore_newcomers};
use crate::engine::{Engine, Observer};
use crate::lack::is_lack;

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the accept loops of one worker share.
pub(super) struct Gate {
    pub(super) engine: Engine,
    pub(super) live: Arc<Live>,
    pub(super) drain: Drain,
    pub(super) observer: Arc<dyn Observer>,
}

impl Gate {
    /// Accepts until the program drains or `closed` is ready.
    pub(super) async fn run(
        &self,
        listener: TcpListener,
        closed: impl Future<Output = ()>,
        take: impl Fn(TcpStream, SocketAddr),
    ) {
        let _hold = self.live.hold();
        let mut closed = std::pin::pin!(closed);
        let mut draining = std::pin::pin!(self.drain.draining());
        let drains = loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => break true,
                () = &mut closed => break false,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => take(tcp, peer),
                Err(error) => self.pause(&error).await,
            }
        };
        if let Some(end) = self.drain.handover().filter(|_| drains) {
            self.leave_unanswered(&listener, &take, end).await;
        }
        // Whoever is in the queue would be reset when the socket closes. The kernel is asked itself, since the runtime
        // hears of new connections only when it next waits.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((tcp, peer)) = listener.accept() {
            if let Ok(tcp) = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp)) {
                take(tcp, peer);
            }
        }
    }

    /// Lets nobody else in and refuses nobody; whoever was being let in still is.
    async fn leave_unanswered(&self, listener: &TcpListener, take: &impl Fn(TcpStream, SocketAddr), end: Instant) {
        if let Err(error) = ignore_newcomers(listener) {
            tracing::warn!(%error, "new connections are refused from now on, since they can't be left unanswered");
            return;
        }
        let mut over = std::pin::pin!(sleep_until(end));
        loop {
            tokio::select! {
                () = &mut over => return,
                accepted = listener.accept() => match accepted {
                    // One that can't be told so ends like any other whose client is heard no more.
                    Ok((tcp, peer)) => {
                        let _ = heed_all(&tcp);
                        take(tcp, peer);
                    }
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    /// A client that left before it was accepted is nothing; a lack of anything is waited out.
    async fn pause(&self, error: &std::io::Error) {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if is_lack(error) {
            self.observer.lacks("accept", error);
            self.engine.make_room();
        } else {
            tracing::error!(%error, connections = self.live.connections(), "cannot accept a connection");
        }
        sleep(ACCEPT_PAUSE).await;
    }
}
