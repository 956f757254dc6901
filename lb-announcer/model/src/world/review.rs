//! What only `check` says: it needs no cluster to be true, and no network.

use std::fmt;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::address::Family;
use crate::node::NodeFacts;
use crate::pool::Pool;
use crate::reason;
use crate::subnet::Subnet;
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

    /// Nodes that are in another network than the pool, while others are in the same.
    fn outsiders(&self, pool: &Pool, family: Family, length: u32) -> Vec<Problem> {
        let announces = |node: &&NodeFacts| {
            let covering = self.adverts.iter().filter(|a| a.covers_pool(pool));
            covering.into_iter().any(|a| a.score(node).is_some())
        };
        let networks = |node| Networks::of(self, node, family, length);
        let nodes = self.nodes.values().filter(announces).map(|node| (node, networks(node)));
        let (inside, outside): (Vec<_>, Vec<_>) =
            nodes.filter(|(_, networks)| !networks.subnets.is_empty()).partition(|(_, networks)| networks.meet(pool));
        let (Some((neighbour, _)), Some(span)) = (inside.first(), pool.spans.iter().find(|s| s.family() == family))
        else {
            return Vec::new();
        };
        let problem = |(node, networks): (&NodeFacts, Networks)| {
            let prefix = if networks.guessed { format!("with the usual prefix of /{length} ") } else { String::new() };
            let cause = format!(
                "{prefix}the node is in another network than {span} of pool {}, which node {} is in; it would be chosen \
                 to announce addresses that nobody there can reach",
                pool.name(),
                neighbour.name
            );
            let object = ObjectRef::new("Node", ObjectKey::cluster(node.name.clone()));
            let problem = Problem::new(object, reason::NODE_OUTSIDE_SUBNET, cause);
            let problem = problem.at("status.addresses", networks.to_string());
            problem.remedy("select the nodes of that network with nodeSelectors of the L2Advertisement").warning()
        };
        outside.into_iter().map(problem).collect()
    }
}

/// The networks of one family that a node is on.
struct Networks {
    subnets: Vec<Subnet>,
    /// No speaker has said how long their prefixes are.
    guessed: bool,
}

impl Networks {
    fn of(world: &World, node: &NodeFacts, family: Family, length: u32) -> Self {
        let said = world.speakers.networks(&node.name).filter(|subnet| Family::of(subnet.ip) == family);
        let subnets: Vec<Subnet> = said.copied().collect();
        if !subnets.is_empty() {
            return Self { subnets, guessed: false };
        }
        let own = node.addresses.iter().filter(|ip| Family::of(**ip) == family);
        Self { subnets: own.filter_map(|ip| Subnet::new(*ip, length)).collect(), guessed: true }
    }

    fn meet(&self, pool: &Pool) -> bool {
        self.subnets.iter().any(|subnet| pool.spans.iter().any(|span| span.intersect(subnet.span()).is_some()))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.subnets.iter().map(|s| if self.guessed { s.ip.to_string() } else { s.to_string() });
        f.write_str(&shown.collect::<Vec<_>>().join(", "))
    }
}
