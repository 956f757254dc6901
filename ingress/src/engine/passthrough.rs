//! TLS that is not ended here: the bytes of a client go to an endpoint as they are, and back.

use std::net::{IpAddr, SocketAddr};

use landfall_ingress_model::backend::Backend;
use landfall_ingress_model::balance::Choice;
use landfall_ingress_model::table::{Action, Route};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use super::timer::Timer;
use super::tunnel::tunnel;
use super::wire::Wire;

/// Joins a client with an endpoint of a route until one of them ends or nothing moves any more. Returns why there was
/// none.
///
/// What can be known without a request holds: the addresses that may ask. A route that wants more of its clients gets
/// none.
pub(super) async fn pass_through<S: AsyncRead + AsyncWrite + Unpin>(
    engine: &Shared,
    client: S,
    address: IpAddr,
    route: &Route,
) -> Result<(), &'static str> {
    let policy = &route.policy;
    if policy.access.as_ref().is_some_and(|access| !access.permits(address)) {
        return Err("this address may not use this service");
    }
    if policy.auth.is_some() {
        return Err("the route wants to know who asks, which nobody can see within TLS");
    }
    let Action::Forward(backend) = &route.action else { return Err("this route is out of service") };
    let endpoint = connect(engine, backend, address, route).await?;
    let (mut client, mut endpoint) = (Wire::new(client), Wire::new(endpoint));
    tunnel(&mut client, &mut endpoint, None, policy.upgrade_idle, &mut Timer::default()).await;
    Ok(())
}

/// A connection to an endpoint that takes one.
async fn connect(engine: &Shared, backend: &Backend, client: IpAddr, route: &Route) -> Result<TcpStream, &'static str> {
    let state = backend.state();
    let found = engine.endpoints(&state.target).await;
    let balancer = found.map_err(|_| "the name of the service has no address")?;
    let mut tried: Vec<SocketAddr> = Vec::new();
    for _ in 0..route.policy.tries {
        let (balance, affinity, excluded) = (state.balance, state.affinity, tried.as_slice());
        let choice = Choice { balance, affinity, client, key: None, pinned: None, excluded };
        let Some(pick) = balancer.pick(&choice, std::time::Instant::now()) else { break };
        let address = pick.addr;
        if let Ok(Ok(tcp)) = timeout(route.policy.connect_timeout, TcpStream::connect(address)).await {
            // Without it a connection works, only less well.
            let _ = tcp.set_nodelay(true);
            balancer.succeeded(address);
            return Ok(tcp);
        }
        engine.failed(&backend.key, &balancer, address);
        tried.push(address);
    }
    Err("no endpoint of the service takes a connection")
}
