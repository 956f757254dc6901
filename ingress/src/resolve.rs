//! Names of `ExternalName` Services to addresses.
//!
//! Answers are kept for as long as their TTL says; while a name server is away, an old answer is used for a short
//! time more. Addresses that lead back into the proxy's own host are refused, since whoever writes a Service must
//! not reach what only the host may.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use landfall_ingress_model::settings::Loopback;
use thiserror::Error;

/// Bounds of how long an answer is kept: a TTL of 0 must not make every request a query.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_hours(1);
/// How long an answer may still be used when it can't be renewed (RFC 8767).
const STALE: Duration = Duration::from_mins(1);
/// Pause before a failed query is repeated.
const RETRY: Duration = Duration::from_secs(1);
/// How long a query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Names kept; far more than a cluster has `ExternalName` Services.
const MAX_NAMES: usize = 4096;

/// Why a name has no address to send to.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ResolveError {
    /// The query failed or there is no such name.
    #[error("the name {name:?} could not be resolved: {cause}")]
    Failed {
        /// The name.
        name: Arc<str>,
        /// What the resolver says.
        cause: String,
    },
    /// All addresses lead into the proxy's own host.
    #[error("the name {0:?} has no address that may be used: loopback, link-local and unspecified ones are refused")]
    Refused(Arc<str>),
    /// There is no configuration to resolve with.
    #[error("names can't be resolved: {0}")]
    Unconfigured(String),
}

impl ResolveError {
    /// The status of the answer to the request.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Failed { .. } | Self::Unconfigured(_) => 502,
            Self::Refused(_) => 503,
        }
    }
}

#[derive(Clone)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    /// From then on it is to be renewed.
    renew: Instant,
    /// From then on it may not be used.
    end: Instant,
}

/// Resolves names, with a cache that all workers share.
pub struct Resolver {
    system: OnceLock<Result<TokioResolver, String>>,
    loopback: Loopback,
    answers: Mutex<HashMap<Arc<str>, Answer>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("loopback", &self.loopback).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that uses the system's configuration, read when the first name is asked for.
    pub fn new(loopback: Loopback) -> Self {
        Self { system: OnceLock::new(), loopback, answers: Mutex::default() }
    }

    /// The addresses of `name`, at least one.
    pub async fn resolve(&self, name: &Arc<str>) -> Result<Arc<[IpAddr]>, ResolveError> {
        let now = Instant::now();
        let known = self.known(name);
        if let Some(answer) = &known
            && now < answer.renew
        {
            return Ok(answer.addresses.clone());
        }
        match (self.query(name).await, known) {
            (Ok(answer), _) => {
                let addresses = answer.addresses.clone();
                self.keep(name, answer);
                Ok(addresses)
            }
            // A name server that is away takes no service down at once.
            (Err(ResolveError::Failed { .. }), Some(old)) if now < old.end => {
                let addresses = old.addresses.clone();
                self.keep(name, Answer { renew: now + RETRY, ..old });
                Ok(addresses)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn known(&self, name: &Arc<str>) -> Option<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep(&self, name: &Arc<str>, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_NAMES && !answers.contains_key(name) {
            let now = Instant::now();
            answers.retain(|_, answer| now < answer.renew);
            if answers.len() >= MAX_NAMES {
                answers.clear();
            }
        }
        answers.insert(name.clone(), answer);
    }

    async fn query(&self, name: &Arc<str>) -> Result<Answer, ResolveError> {
        // An address in place of a name needs no name server.
        if let Ok(address) = name.parse::<IpAddr>() {
            let addresses = self.permitted(name, [address])?;
            return Ok(Answer { addresses, renew: Instant::now() + MAX_TTL, end: Instant::now() + MAX_TTL });
        }
        let system = self.system.get_or_init(system_resolver);
        let system = system.as_ref().map_err(|cause| ResolveError::Unconfigured(cause.clone()))?;
        let failed = |cause: String| ResolveError::Failed { name: name.clone(), cause };
        // The final dot keeps search domains out: an ExternalName is a whole name.
        let absolute = format!("{name}.");
        let found = tokio::time::timeout(QUERY_TIMEOUT, system.lookup_ip(absolute))
            .await
            .map_err(|_| failed("no answer in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        let now = Instant::now();
        let ttl = found.valid_until().saturating_duration_since(now).clamp(MIN_TTL, MAX_TTL);
        let addresses = self.permitted(name, found.iter())?;
        Ok(Answer { addresses, renew: now + ttl, end: now + ttl + STALE })
    }

    /// The addresses that requests may be sent to.
    fn permitted(
        &self,
        name: &Arc<str>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        let usable = |address: &IpAddr| is_permitted(*address, self.loopback);
        let addresses: Vec<IpAddr> =
            addresses.into_iter().map(|address| address.to_canonical()).filter(usable).collect();
        if addresses.is_empty() { Err(ResolveError::Refused(name.clone())) } else { Ok(addresses.into()) }
    }
}

/// Whether requests may be sent to an address that a name stands for.
fn is_permitted(address: IpAddr, loopback: Loopback) -> bool {
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    };
    if address.is_unspecified() || local {
        return false;
    }
    loopback == Loopback::Allowed || !address.is_loopback()
}

/// The resolver of `/etc/resolv.conf`.
fn system_resolver() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    // Answers are kept here, where it is known for how long they may be used when they are old.
    builder.options_mut().cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_own_host_are_refused_in_a_cluster() {
        let cases = [
            ("10.0.0.1", true, true),
            ("2001:db8::1", true, true),
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("224.0.0.1", false, false),
        ];
        for (address, cluster, folder) in cases {
            let address = address.parse().unwrap();
            assert_eq!(is_permitted(address, Loopback::Refused), cluster, "{address}");
            assert_eq!(is_permitted(address, Loopback::Allowed), folder, "{address}");
        }
    }

    #[tokio::test]
    async fn an_address_written_as_a_name_is_checked_like_one() {
        let resolver = Resolver::new(Loopback::Refused);
        let refused: Arc<str> = "127.0.0.1".into();
        assert_eq!(resolver.resolve(&refused).await, Err(ResolveError::Refused(refused.clone())));
        let mapped: Arc<str> = "::ffff:127.0.0.1".into();
        assert_eq!(resolver.resolve(&mapped).await, Err(ResolveError::Refused(mapped.clone())));
        let good: Arc<str> = "192.0.2.1".into();
        assert_eq!(resolver.resolve(&good).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_old_answer_is_used_while_the_name_server_is_away_but_not_for_long() {
        let resolver = Resolver::new(Loopback::Allowed);
        let _ = resolver.system.set(Err("away".into()));
        let name: Arc<str> = "db.example".into();
        assert!(matches!(resolver.resolve(&name).await, Err(ResolveError::Unconfigured(_))));
        let now = Instant::now();
        let addresses: Arc<[IpAddr]> = vec![IpAddr::from([192, 0, 2, 1])].into();
        resolver.keep(&name, Answer { addresses: addresses.clone(), renew: now + MAX_TTL, end: now + MAX_TTL });
        assert_eq!(resolver.resolve(&name).await, Ok(addresses));
    }
}
