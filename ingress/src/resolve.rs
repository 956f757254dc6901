//! Names of `ExternalName` Services to addresses.
//!
//! Answers are kept for as long as their TTL says, failures for a moment, and one name is asked for once at a time.
//! While name servers are away, an old answer is used for a short time more. Addresses that lead back into the proxy's own host are refused, since whoever writes a Service must not reach what
//! only the host may.

mod name;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use landfall_ingress_model::address::{Unusable, usable};
use landfall_ingress_model::settings::Origin;
use moka::sync::Cache;
use thiserror::Error;

use crate::lack::is_lack;
use name::{Answer, Name};

/// Bounds of how long an answer is kept: a TTL of 0 must not make every request a query.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_hours(1);
/// How long a query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a query may take while there is an old answer (RFC 8767 section 5).
const REFRESH_TIMEOUT: Duration = Duration::from_millis(1_800);
/// Names kept; far more than a cluster has `ExternalName` Services.
const MAX_NAMES: u64 = 4096;
/// How long a name that nobody asks for is kept: longer than any answer is.
const IDLE: Duration = Duration::from_hours(2);

/// Why a name has no address to send to.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ResolveError {
    /// The name servers say that there is no such name or that it has no address.
    #[error("the name {0:?} does not exist or has no address")]
    Missing(Arc<str>),
    /// The query failed.
    #[error("the name {name:?} could not be resolved: {cause}")]
    Failed {
        /// The name.
        name: Arc<str>,
        /// What the resolver says.
        cause: Arc<str>,
    },
    /// This process can't ask.
    #[error("the name {name:?} could not be resolved: {cause}")]
    Exhausted {
        /// The name.
        name: Arc<str>,
        /// What it lacks.
        cause: Arc<str>,
    },
    /// Requests must not be sent to any of the addresses.
    #[error("the name {name:?} has no usable address: {cause}")]
    Refused {
        /// The name.
        name: Arc<str>,
        /// Why the first of them is refused.
        cause: Unusable,
    },
    /// There is no configuration to resolve with.
    #[error("names can't be resolved: {0}")]
    Unconfigured(Arc<str>),
}

impl ResolveError {
    /// The status of the answer to the request.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Missing(_) | Self::Failed { .. } | Self::Unconfigured(_) => 502,
            Self::Refused { .. } | Self::Exhausted { .. } => 503,
        }
    }
}

/// Resolves names, with a cache that all workers share.
pub struct Resolver {
    system: OnceLock<Result<TokioResolver, Arc<str>>>,
    origin: Origin,
    names: Cache<Arc<str>, Arc<Name>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that uses the system's configuration, read when the first name is asked for.
    pub fn new(origin: Origin) -> Self {
        let names = Cache::builder().max_capacity(MAX_NAMES).time_to_idle(IDLE).build();
        Self { system: OnceLock::new(), origin, names }
    }

    /// A resolver that asks these name servers, by UDP.
    pub fn with_name_servers(origin: Origin, servers: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| {
            let mut connection = ConnectionConfig::udp();
            connection.port = address.port();
            NameServerConfig::new(address.ip(), true, vec![connection])
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        options(builder.options_mut());
        let resolver = Self::new(origin);
        let _ = resolver.system.set(builder.build().map_err(|error| error.to_string().into()));
        resolver
    }

    /// Where the objects come from, and so which addresses may be used.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The addresses of `name`, sorted, at least one. As long as they are the same, so is the list.
    pub async fn resolve(&self, name: &Arc<str>) -> Result<Arc<[IpAddr]>, ResolveError> {
        self.addresses(name, &self.entry(name)).await
    }

    fn entry(&self, name: &Arc<str>) -> Arc<Name> {
        self.names.get_with_by_ref(name, Arc::default)
    }

    async fn addresses(&self, name: &Arc<str>, entry: &Name) -> Result<Arc<[IpAddr]>, ResolveError> {
        if let Some(outcome) = entry.current(Instant::now()) {
            return outcome;
        }
        let old = entry.stale(Instant::now());
        // One query at a time; whoever has an old answer does not wait for it.
        let _turn = match (entry.asking.try_lock(), &old) {
            (Ok(turn), _) => turn,
            (Err(_), Some(old)) => return Ok(old.clone()),
            (Err(_), None) => entry.asking.lock().await,
        };
        if let Some(outcome) = entry.current(Instant::now()) {
            return outcome;
        }
        let limit = if old.is_some() { REFRESH_TIMEOUT } else { QUERY_TIMEOUT };
        let answer = self.query(name, limit).await;
        entry.keep(answer, Instant::now())
    }

    async fn query(&self, name: &Arc<str>, limit: Duration) -> Result<Answer, ResolveError> {
        // An address in place of a name needs no name server.
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Answer { addresses: self.permitted(name, [address])?, ttl: MAX_TTL });
        }
        let system = self.system.get_or_init(system_resolver);
        let system = system.as_ref().map_err(|cause| ResolveError::Unconfigured(cause.clone()))?;
        let failed = |cause: String| ResolveError::Failed { name: name.clone(), cause: cause.into() };
        // The final dot keeps search domains out: an ExternalName is a whole name.
        let absolute = format!("{name}.");
        let found = tokio::time::timeout(limit, system.lookup_ip(absolute))
            .await
            .map_err(|_| failed("no answer in time".to_owned()))?
            .map_err(|error| match &error {
                error if error.is_no_records_found() => ResolveError::Missing(name.clone()),
                NetError::Io(cause) if is_lack(cause) => {
                    ResolveError::Exhausted { name: name.clone(), cause: cause.to_string().into() }
                }
                error => failed(error.to_string()),
            })?;
        let ttl = found.valid_until().saturating_duration_since(Instant::now()).clamp(MIN_TTL, MAX_TTL);
        Ok(Answer { addresses: self.permitted(name, found.iter())?, ttl })
    }

    /// The addresses that requests may be sent to, sorted.
    fn permitted(
        &self,
        name: &Arc<str>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let mut refusal = None;
        let mut permitted = Vec::new();
        for address in addresses {
            match usable(address, self.origin) {
                Ok(address) => permitted.push(address),
                Err(cause) => refusal = refusal.or(Some(cause)),
            }
        }
        if permitted.is_empty() {
            return Err(match refusal {
                Some(cause) => ResolveError::Refused { name: name.clone(), cause },
                None => ResolveError::Missing(name.clone()),
            });
        }
        permitted.sort_unstable();
        permitted.dedup();
        // Where this host has IPv4 only, the IPv6 addresses of a name can't be meant, and the other way round.
        let reachable: Vec<IpAddr> = permitted.iter().copied().filter(|address| has_route(*address)).collect();
        Ok(if reachable.is_empty() { permitted } else { reachable })
    }
}

/// Whether this host has a route to the address. Nothing is sent: connecting a UDP socket looks the route up.
fn has_route(address: IpAddr) -> bool {
    let own: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Any port will do.
    UdpSocket::bind((own, 0)).and_then(|socket| socket.connect((address, 80))).is_ok()
}

/// The resolver of `/etc/resolv.conf`.
fn system_resolver() -> Result<TokioResolver, Arc<str>> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    options(builder.options_mut());
    Ok(builder.build().map_err(|error| error.to_string())?)
}

fn options(options: &mut ResolverOpts) {
    // Answers are kept here, where it is known for how long they may be used when they are old.
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}
