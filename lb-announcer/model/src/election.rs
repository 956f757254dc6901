//! The order in which nodes are candidates for an address.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::node::Flaw;

/// A node's place in the order; the least is first.
///
/// The order is `MetalLB`'s, so that swapping the software moves no address: preference score descending, then
/// SHA-256 of `NODE#IP` ascending. Nodes with flaws come after all others, the gravest last; `MetalLB` knows some of
/// these, and leaves such nodes out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    flaw: Option<Flaw>,
    disfavour: i64,
    hash: [u8; 32],
}

impl Rank {
    /// The rank of `node` for the address `ip` with this preference score and its gravest flaw.
    pub fn new(node: &str, ip: IpAddr, score: i64, flaw: Option<Flaw>) -> Self {
        Self { flaw, disfavour: -score, hash: Sha256::digest(format!("{node}#{ip}")).into() }
    }

    /// Whether only the hash tells which comes first.
    pub fn is_as_good_as(self, other: Self) -> bool {
        (self.flaw, self.disfavour) == (other.flaw, other.disfavour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(nodes: &str, ip: &str, expected: &str) {
        let ip = ip.parse().unwrap();
        let mut order: Vec<&str> = nodes.split(' ').collect();
        order.sort_by_key(|node| Rank::new(node, ip, 0, None));
        assert_eq!(order.join(" "), expected, "{ip}");
    }

    #[test]
    fn the_order_is_the_one_that_clusters_have_today() {
        check("node-a node-b node-c", "10.0.0.1", "node-b node-a node-c");
        check("node-a node-b node-c", "10.0.0.2", "node-b node-c node-a");
        check("iris1 iris2", "10.20.30.1", "iris2 iris1");
        check("iris1 iris2", "10.20.30.2", "iris1 iris2");
        check("edge-a edge-b worker-a worker-b", "10.20.30.1", "edge-b worker-a edge-a worker-b");
        let five = "node1 node2 node3 node4 node5";
        check(five, "192.168.1.240", "node5 node3 node4 node1 node2");
        check(five, "192.168.1.241", "node1 node4 node3 node2 node5");
        check(five, "192.168.1.242", "node1 node3 node4 node2 node5");
        check(five, "192.168.1.243", "node4 node1 node3 node2 node5");
        check(five, "192.168.1.244", "node4 node2 node5 node1 node3");
        check("kind-control-plane kind-worker kind-worker2", "fd00::1", "kind-worker2 kind-worker kind-control-plane");
    }

    #[test]
    fn preference_comes_before_the_hash_and_flaws_before_both() {
        let ip = "10.0.0.1".parse().unwrap();
        assert!(Rank::new("node-c", ip, 1, None) < Rank::new("node-b", ip, 0, None));
        let graver = [None, Some(Flaw::Cordoned), Some(Flaw::NotReady), Some(Flaw::NetworkUnavailable)];
        let gravest = [Some(Flaw::Deleting), Some(Flaw::OutOfService), Some(Flaw::Excluded)];
        let flaws: Vec<_> = graver.into_iter().chain(gravest).collect();
        for pair in flaws.windows(2) {
            assert!(Rank::new("node-a", ip, 0, pair[0]) < Rank::new("node-b", ip, 100, pair[1]), "{pair:?}");
        }
    }
}
