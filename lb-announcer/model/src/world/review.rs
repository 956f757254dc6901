//! What only `check` says: it needs no cluster to be true, and no network.

use std::net::IpAddr;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::address::{Family, Span};
use crate::node::NodeFacts;
use crate::pool::Pool;
use crate::reason;
use crate::world::World;

/// Prefix lengths that networks of nodes mostly have.
const USUAL: [(Family, u32); 2] = [(Family::V4, 24), (Family::V6, 64)];

impl World {
    /// Problems that the objects would have in a cluster whose configuration is read from these namespaces.
    pub fn review(&self, namespaces: &[String]) -> Vec<Problem> {
        let mut problems = self.elsewhere(namespaces);
        for pool in &self.pools {
            for (family, length) in USUAL {
                problems.extend(self.outsiders(pool, family, length));
            }
        }
        problems
    }

    fn elsewhere(&self, namespaces: &[String]) -> Vec<Problem> {
        let pools = self.pool_objects.keys().map(|key| ObjectRef::new("IPAddressPool", key.clone()));
        let adverts = self.advert_objects.keys().map(|key| ObjectRef::new("L2Advertisement", key.clone()));
        let all = pools.chain(adverts).filter(|o| !namespaces.iter().any(|n| n == o.key.namespace()));
        let problem = |object: ObjectRef| {
            let namespace = object.key.namespace().to_owned();
            let cause = format!("in a cluster this kind is read from the namespaces {} only", namespaces.join(" and "));
            let problem = Problem::new(object, reason::NAMESPACE_NOT_READ, cause).at("metadata.namespace", namespace);
            problem.remedy("write one of these namespaces, or start check with --namespace").warning()
        };
        all.map(problem).collect()
    }

    /// Nodes that seem to be in another network than the pool, while others are in the same.
    fn outsiders(&self, pool: &Pool, family: Family, length: u32) -> Vec<Problem> {
        let announces = |node: &&NodeFacts| {
            let covering = self.adverts.iter().filter(|a| a.covers_pool(pool));
            covering.into_iter().any(|a| a.score(node).is_some())
        };
        let of_family = |node: &NodeFacts| -> Vec<IpAddr> {
            node.addresses.iter().copied().filter(|ip| Family::of(*ip) == family).collect()
        };
        let beside = |ip: &IpAddr| {
            let network = Span::prefix(*ip, length);
            network.is_some_and(|network| pool.spans.iter().any(|span| span.intersect(network).is_some()))
        };
        let nodes = self.nodes.values().filter(announces).filter(|node| !of_family(node).is_empty());
        let (inside, outside): (Vec<_>, Vec<_>) = nodes.partition(|node| of_family(node).iter().any(beside));
        let (Some(neighbour), Some(span)) = (inside.first(), pool.spans.iter().find(|s| s.family() == family)) else {
            return Vec::new();
        };
        let problem = |node: &NodeFacts| {
            let own: Vec<String> = of_family(node).iter().map(IpAddr::to_string).collect();
            let cause = format!(
                "with the usual prefix of /{length} the node is in another network than {span} of pool {}, which node {} \
                 is in; it would be chosen to announce addresses that nobody there can reach",
                pool.name(),
                neighbour.name
            );
            let object = ObjectRef::new("Node", ObjectKey::cluster(node.name.clone()));
            let problem = Problem::new(object, reason::NODE_OUTSIDE_SUBNET, cause);
            let problem = problem.at("status.addresses", own.join(", "));
            problem.remedy("select the nodes of that network with nodeSelectors of the L2Advertisement").warning()
        };
        outside.into_iter().map(problem).collect()
    }
}
