//! Which node has an address, where several say so: one without power leaves behind what it said last.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::sync::Arc;

use landfall_lb_model::crd::ServiceL2Status;
use landfall_lb_model::node::ExcludeLabel;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::whereabouts::holder;
use landfall_lb_model::world::{Input, Rules, World};
use landfall_model::Change;
use serde_json::{Value, json};

const FOUR: &str = "192.168.77.200";
const SIX: &str = "fd77::200";

/// What a node's speaker has written, `since` so many seconds past midnight, with the moves of its addresses.
fn said(node: &str, since: u32, moves: &Value) -> Arc<ServiceL2Status> {
    let annotations = if moves.is_null() { json!({}) } else { json!({"landfall.dev/moves": moves.to_string()}) };
    let object = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status", "spec": {},
        "metadata": {"name": format!("l2-{node}"), "namespace": "landfall-system", "annotations": annotations,
                     "creationTimestamp": format!("2026-01-01T00:00:{since:02}Z")},
        "status": {"node": node, "serviceName": "web", "serviceNamespace": "default", "interfaces": [{"name": "eth0"}]},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn world(said: Vec<Arc<ServiceL2Status>>) -> World {
    let mut world = World::new(Rules { class: None, exclude: ExcludeLabel::Heed, speakers: SpeakerRule::EveryNode });
    let service = json!({
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": FOUR}, {"ip": SIX}]}},
    });
    world.apply(Input::Service(Change::Replace(vec![Arc::new(serde_json::from_value(service).unwrap())])));
    world.apply(Input::L2Status(Change::Replace(said)));
    world.settle();
    world
}

fn node(world: &mut World, ip: &str) -> Option<String> {
    holder(ip.parse::<IpAddr>().unwrap(), world).node
}

#[test]
fn the_node_that_came_last_has_it() {
    let mut both = world(vec![said("n1", 9, &Value::Null), said("n2", 30, &Value::Null)]);
    assert_eq!(node(&mut both, FOUR).as_deref(), Some("n2"));
    assert_eq!(node(&mut world(vec![]), FOUR), None);
}

#[test]
fn each_address_is_where_its_own_last_move_led() {
    let midnight = 1_767_225_600_000_u64;
    let first = json!({FOUR: {"sinceMs": midnight + 5_000}, SIX: {"sinceMs": midnight + 5_000}});
    let second = json!({FOUR: {"sinceMs": midnight + 20_250, "from": "n1", "cause": "failover", "tookMs": 205}});
    let mut both = world(vec![said("n1", 5, &first), said("n2", 5, &second)]);
    assert_eq!(node(&mut both, SIX).as_deref(), Some("n1"));
    let found = holder(FOUR.parse().unwrap(), &mut both);
    let moved = found.moved.unwrap();
    assert_eq!((found.node.as_deref(), found.since_ms), (Some("n2"), Some(midnight + 20_250)));
    assert_eq!(
        (moved.from.as_deref(), moved.cause.as_deref(), moved.took_ms),
        (Some("n1"), Some("failover"), Some(205))
    );
}
