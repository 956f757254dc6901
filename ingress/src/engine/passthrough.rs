//! Bytes that are not looked at: TLS that is not ended here, and the TCP ports of Services.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use landfall_ingress_model::table::{Action, Route, StreamService};
use tokio::io::{AsyncRead, AsyncWrite};

use super::event::StreamCounts;
use super::reach::{Tries, reach};
use super::timer::Timer;
use super::tunnel::tunnel;
use super::wire::Wire;
use super::{Shared, proxy_line};

/// Time to connect to an endpoint of a TCP port.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    let tries = Tries { count: policy.tries, limit: policy.connect_timeout, within: None };
    let (endpoint, _pick) = reach(engine, backend, address, tries).await.outcome?;
    let (mut client, mut endpoint) = (Wire::new(client), Wire::new(endpoint));
    let idle = policy.upgrade_idle;
    tunnel(&mut client, &mut endpoint, None, idle, &mut Timer::default(), &mut |_, _| {}).await;
    Ok(())
}

/// Both ends of a client's connection, as a PROXY header in front said them or as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) client: SocketAddr,
    /// Where it connected to.
    pub(crate) destination: SocketAddr,
}

/// What came of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// The last endpoint that was tried.
    pub(crate) upstream: Option<SocketAddr>,
    /// Endpoints that were tried.
    pub(crate) tries: u32,
    /// Why there was no endpoint.
    pub(crate) failure: Option<&'static str>,
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
}

/// Joins a client of a TCP port with an endpoint of its Service.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    engine: &Shared,
    client: S,
    ends: Ends,
    service: &StreamService,
    counts: &StreamCounts,
    carried: &mut Carried,
) {
    let policy = &service.policy;
    let tries = Tries { count: policy.tries, limit: CONNECT_TIMEOUT, within: policy.within };
    let reached = reach(engine, &service.backend, ends.client.ip().to_canonical(), tries).await;
    carried.upstream = reached.tried.last().copied();
    carried.tries = u32::try_from(reached.tried.len()).unwrap_or(u32::MAX);
    let (endpoint, _pick) = match reached.outcome {
        Ok(reached) => reached,
        Err(failure) => {
            carried.failure = Some(failure);
            return;
        }
    };
    let (mut client, mut endpoint) = (Wire::new(client), Wire::new(endpoint));
    if service.proxy.to_endpoint {
        // It goes out with the first look at the connection, since the endpoint may be the one to speak first.
        endpoint.push(Bytes::from(proxy_line(ends.client, ends.destination)), b"");
    }
    let mut meter = |received: u64, sent: u64| {
        counts.received.fetch_add(received, Relaxed);
        counts.sent.fetch_add(sent, Relaxed);
        carried.received += received;
        carried.sent += sent;
    };
    tunnel(&mut client, &mut endpoint, None, policy.idle, &mut Timer::default(), &mut meter).await;
}
