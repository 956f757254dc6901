//! Names to addresses, for the CA's own and for those that are to be proven.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Record, RecordType};
use tokio::time::timeout;

/// How long a name may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resolves names without keeping answers: what has just been mended has to be seen.
#[derive(Clone)]
pub(super) struct Names(Result<Arc<TokioResolver>, Arc<str>>);

/// Why a name has no address.
#[derive(Debug)]
pub(super) enum NameError {
    /// The name servers say so.
    Missing(String),
    /// They could not be asked.
    Failed(String),
}

impl Names {
    /// Asks these name servers, else those of the system.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| error.to_string())
        } else {
            let server = |address: &SocketAddr| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = address.port();
                    connection
                });
                NameServerConfig::new(address.ip(), true, connections.into())
            };
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
            Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        };
        let resolver = builder.and_then(|mut builder| {
            let options = builder.options_mut();
            options.cache_size = 0;
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build().map_err(|error| error.to_string())
        });
        Self(resolver.map(Arc::new).map_err(Into::into))
    }

    /// The addresses of a name, those of IPv6 first as a CA takes them; at least one.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let resolver = self.0.as_ref().map_err(|error| NameError::Failed(error.to_string()))?;
        let found = timeout(PATIENCE, resolver.lookup_ip(format!("{name}.")))
            .await
            .map_err(|_| NameError::Failed(format!("no name server answers for {name} in time")))?
            .map_err(|error| {
                if error.is_no_records_found() {
                    NameError::Missing(format!("the name {name} does not exist or has no address"))
                } else {
                    NameError::Failed(format!("the name {name} can't be resolved: {error}"))
                }
            })?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_by_key(IpAddr::is_ipv4);
        if addresses.is_empty() {
            return Err(NameError::Missing(format!("the name {name} has no address")));
        }
        Ok(addresses)
    }

    /// The records of a name, which may have none.
    pub(super) async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, NameError> {
        let resolver = self.0.as_ref().map_err(|error| NameError::Failed(error.to_string()))?;
        match timeout(PATIENCE, resolver.lookup(format!("{name}."), kind)).await {
            Err(_) => Err(NameError::Failed(format!("no name server answers for {name} in time"))),
            Ok(Ok(found)) => Ok(found.answers().to_vec()),
            Ok(Err(error)) if error.is_no_records_found() => Ok(Vec::new()),
            Ok(Err(error)) => Err(NameError::Failed(format!("the {kind} record of {name} can't be had: {error}"))),
        }
    }
}
