//! Looking hosts up as this machine does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use landfall_ingress_model::checkup::Lookup;
use landfall_ingress_model::settings::Origin;

use crate::resolve::{ResolveError, Resolver};

/// Hosts that are looked up at most.
const MOST: usize = 100;
/// Questions at one time.
const AT_ONCE: usize = 32;
/// How long one may take: the whole check is to take less than three seconds.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// What the name servers of this machine say of these hosts.
pub(super) async fn look_up(hosts: Vec<String>) -> BTreeMap<String, Lookup> {
    // Loopback addresses are as good as others here: they show where clients of this machine go.
    let resolver = Arc::new(Resolver::new(Origin::Folder));
    let found = futures::stream::iter(hosts.into_iter().take(MOST)).map(|host| {
        let resolver = resolver.clone();
        async move {
            let name: Arc<str> = host.as_str().into();
            let lookup = match tokio::time::timeout(PATIENCE, resolver.resolve(&name)).await {
                Ok(Ok(addresses)) => Lookup::Addresses(addresses.to_vec()),
                Ok(Err(ResolveError::Missing(_))) => Lookup::Missing,
                Ok(Err(error)) => Lookup::Failed(error.to_string()),
                Err(_) => Lookup::Failed("the name servers don't answer in time".to_owned()),
            };
            (host, lookup)
        }
    });
    found.buffer_unordered(AT_ONCE).collect().await
}
