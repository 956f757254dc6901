//! How automatic certificates stand, as one look at the cluster shows it: from what Ingresses ask for, the issuers, the
//! Secrets and what the leader remembers of its tries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use landfall_ingress_model::acme::ask::Asked;
use landfall_ingress_model::acme::world::{Place, World};
use landfall_model::{Change, ObjectKey, Problem};
use landfall_shared::look::Look;

use super::store::Cluster;
use crate::cli::ServeArgs;
use crate::control::unix_now;

/// What is wrong with the certificates that the Ingresses of a cluster ask for; nothing where none are ordered.
///
/// `namespace` is that of the ingress, `args` are its flags, and `secrets` all of type `kubernetes.io/tls`.
pub(crate) async fn problems(
    look: &Look,
    namespace: &str,
    args: &ServeArgs,
    asked: Arc<[Asked]>,
    secrets: Vec<Arc<Secret>>,
) -> anyhow::Result<Vec<Problem>> {
    if !args.acme.is_on() {
        return Ok(Vec::new());
    }
    // The file with the CA's authorities lies in the pod, and nobody is asked for a certificate here.
    let flags = super::settings::AcmeArgs { acme_ca: None, ..args.acme.clone() };
    let mut world = World::new(flags.issuers()?, Place::Watched);
    if let Some(key) = &args.acme.acme_issuers {
        let map = look.get::<ConfigMap>(key).await?;
        let data: BTreeMap<String, String> = map.and_then(|map| map.data.clone()).unwrap_or_default();
        world.set_issuers(Some((key, &data)));
    }
    let board: ObjectKey = Cluster::board_of(namespace, &args.lease);
    world.load(Cluster::read(look.get::<ConfigMap>(&board).await?.as_deref())?.state);
    world.secrets(Change::Replace(secrets));
    world.ask(asked);
    Ok(world.plan(unix_now().as_secs(), &BTreeSet::new()).problems)
}
