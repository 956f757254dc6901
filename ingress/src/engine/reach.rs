//! A connection to an endpoint that takes one, for bytes that are passed on as they are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_ingress_model::backend::Backend;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{HURRIED_CONNECT, Shared};
use crate::balance::{Balancer, Choice, Pick};
use crate::lack::is_lack;

/// How long and how often endpoints are tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    /// In all.
    pub(super) count: u32,
    /// Time for one.
    pub(super) limit: Duration,
    /// Another one begins only within this time.
    pub(super) within: Option<Duration>,
}

/// An endpoint, and what is known of the others.
pub(crate) struct Chosen {
    /// Counts as in flight at its endpoint.
    pub(crate) pick: Pick,
    /// All endpoints.
    pub(crate) balancer: Arc<Balancer>,
}

/// What came of it.
pub(super) struct Reached {
    /// The connection, and what counts it at its endpoint; otherwise why there is none.
    pub(super) outcome: Result<(TcpStream, Pick), &'static str>,
    /// Endpoints that were tried.
    pub(super) tried: Vec<SocketAddr>,
}

/// Chooses an endpoint that is not among `excluded`.
pub(super) async fn choose(
    engine: &Shared,
    backend: &Arc<Backend>,
    client: IpAddr,
    excluded: &[SocketAddr],
) -> Result<Chosen, &'static str> {
    let state = backend.state();
    let found = engine.balancers.of(backend, &state.target).await;
    let balancer = found.map_err(|_| "the name of the service has no address")?;
    let (balance, affinity) = (state.balance, state.affinity);
    let choice = Choice { balance, affinity, client, key: None, subset: 1, pinned: None, excluded };
    let pick = balancer.pick(&choice, Instant::now()).ok_or("no endpoint of the service takes a connection")?;
    Ok(Chosen { pick, balancer })
}

/// Connects with one endpoint after the other.
pub(super) async fn reach(engine: &Shared, backend: &Arc<Backend>, client: IpAddr, tries: Tries) -> Reached {
    let begun = Instant::now();
    // `failed` are those of `asked` that are to blame.
    let (mut asked, mut failed) = (Vec::new(), Vec::new());
    let mut cleared = false;
    let outcome = loop {
        let Chosen { pick, balancer } = match choose(engine, backend, client, &failed).await {
            Ok(chosen) => chosen,
            Err(why) => break Err(why),
        };
        let address = pick.addr;
        asked.push(address);
        // A dead endpoint must not cost the whole limit where there is another one.
        let count = u32::try_from(failed.len() + 1).unwrap_or(u32::MAX);
        let another = count < tries.count && failed.len() + 1 < balancer.len();
        let limit = if another { tries.limit.min(HURRIED_CONNECT) } else { tries.limit };
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Without it a connection works, only less well.
                let _ = tcp.set_nodelay(true);
                balancer.succeeded(address);
                break Ok((tcp, pick));
            }
            // Connections that wait for nothing are worth less than this one; the endpoint is to blame for nothing.
            Ok(Err(error)) if is_lack(&error) => {
                engine.observer.lacks("connect", &error);
                if std::mem::replace(&mut cleared, true) {
                    break Err("this process has no file descriptor or port left");
                }
                engine.pool.clear();
                asked.pop();
            }
            Ok(Err(_)) | Err(_) => {
                engine.failed(&backend.key, &balancer, address);
                failed.push(address);
                if count >= tries.count || tries.within.is_some_and(|within| begun.elapsed() >= within) {
                    break Err("no endpoint of the service takes a connection");
                }
            }
        }
    };
    Reached { outcome, tried: asked }
}
