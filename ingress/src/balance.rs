//! Which endpoint takes the next request, and what requests have taught of each: load, health and speed.
//!
//! The table names the endpoints of a backend and the way to choose among them; what is learned of them stays here, in
//! one [`Balancer`] for each backend that was asked for something. All workers share it, and the endpoints of a Service
//! and the addresses of a name are treated alike.

mod affinity;
mod balancer;
mod ewma;
mod stats;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;

use foldhash::fast::FixedState;
use landfall_ingress_model::backend::{Backend, Ejections, Target};

use crate::resolve::{ResolveError, Resolver};

pub use balancer::{Balancer, Choice, Pick};
pub use stats::EndpointStats;

/// Each has a lock of its own, so that workers seldom meet at one.
const PARTS: usize = 64;

/// The balancers of all backends.
pub struct Balancers {
    resolver: Arc<Resolver>,
    parts: Box<[RwLock<Part>]>,
}

/// By the address of the [`Backend`]. Places in memory are no secret worth a keyed hash, and clients choose none.
type Part = HashMap<usize, Kept, FixedState>;

#[derive(Debug)]
struct Kept {
    /// Keeps its address from being another backend's.
    backend: Weak<Backend>,
    list: List,
    balancer: Arc<Balancer>,
}

/// What a balancer was made for. The same list is the same place in memory.
#[derive(Clone, Debug)]
enum List {
    Endpoints(Arc<[SocketAddr]>),
    Name(Arc<[IpAddr]>, u16),
}

impl List {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoints(one), Self::Endpoints(other)) => Arc::ptr_eq(one, other),
            (Self::Name(one, port), Self::Name(other, other_port)) => Arc::ptr_eq(one, other) && port == other_port,
            _ => false,
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Endpoints(list) => list.to_vec(),
            Self::Name(list, port) => list.iter().map(|address| SocketAddr::new(*address, *port)).collect(),
        }
    }
}

impl Balancers {
    /// None yet. Names of `ExternalName` Services are resolved by `resolver`.
    pub fn new(resolver: Arc<Resolver>) -> Arc<Self> {
        Arc::new(Self { resolver, parts: (0..PARTS).map(|_| RwLock::default()).collect() })
    }

    /// Resolves names.
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// The choice among what `target`, which is `backend`'s, leads to now.
    ///
    /// It is the same one as long as the list is; after that, what is known of the endpoints that stay is kept.
    pub async fn of(&self, backend: &Arc<Backend>, target: &Target) -> Result<Arc<Balancer>, ResolveError> {
        let list = match target {
            Target::Endpoints(list) => List::Endpoints(list.clone()),
            // Boxed, since few backends are names.
            Target::Dns { name, port } => List::Name(Box::pin(self.resolver.resolve(name)).await?, *port),
        };
        Ok(self.balancer(backend, list))
    }

    /// The one that the last request to a backend was balanced by, if there was any.
    pub fn known(&self, backend: &Backend) -> Option<Arc<Balancer>> {
        let key = key_of(backend);
        let part = self.part(key)?.read().unwrap_or_else(PoisonError::into_inner);
        part.get(&key).map(|kept| kept.balancer.clone())
    }

    fn balancer(&self, backend: &Arc<Backend>, list: List) -> Arc<Balancer> {
        let key = key_of(backend);
        let Some(part) = self.part(key) else { return Arc::new(Balancer::new(list.addresses(), None)) };
        let of = |part: &Part| part.get(&key).filter(|kept| kept.list.is(&list)).map(|kept| kept.balancer.clone());
        if let Some(found) = of(&part.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = of(&part) {
            return found;
        }
        let previous = part.get(&key).map(|kept| &*kept.balancer);
        let balancer = Arc::new(Balancer::new(list.addresses(), previous));
        // Before it grows it forgets what no table has any more.
        if previous.is_none() && part.len() == part.capacity() {
            part.retain(|_, kept| kept.backend.strong_count() > 0);
        }
        part.insert(key, Kept { backend: Arc::downgrade(backend), list, balancer: balancer.clone() });
        balancer
    }

    fn part(&self, key: usize) -> Option<&RwLock<Part>> {
        // Addresses are multiples of their alignment, so their last bits tell nothing apart.
        self.parts.get((key >> 6) % PARTS)
    }
}

impl Ejections for Balancers {
    fn is_ejected(&self, backend: &Backend, address: SocketAddr, now: Instant) -> bool {
        self.known(backend).is_some_and(|balancer| balancer.is_ejected(address, now))
    }
}

impl std::fmt::Debug for Balancers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balancers").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

fn key_of(backend: &Backend) -> usize {
    std::ptr::from_ref(backend).addr()
}

#[cfg(test)]
mod tests;
