//! Nodes between which no heartbeat arrives, and a port that another program has.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::{ADDRESS, Lan, OBJECTS, inside};

/// Two seconds more than with heartbeats, on a machine that others use too.
const FAILOVER: Duration = Duration::from_millis(2_300);
const PLANNED: Duration = Duration::from_millis(1_500);

/// Nothing else on the network has the address, and it stays the Service's.
fn is_kept(status: &serde_json::Value) -> bool {
    let problems = status["problems"].to_string();
    status["services"][0]["addresses"] == serde_json::json!([ADDRESS.to_string()])
        && !problems.contains("AddressConflict")
}

#[test]
fn without_heartbeats_an_address_answers_from_one_node_through_a_crash_a_restart_and_a_deleted_node() {
    let mut lan = Lan::new();
    lan.block_heartbeats();
    (0..3).for_each(|node| lan.start(node));
    let owner = lan.owner();
    for node in 0..3 {
        lan.await_status(node, "both peers as unheard", |s| s["unheard"].as_object().is_some_and(|u| u.len() == 2));
        lan.await_status(node, "the address", is_kept);
    }

    lan.end(owner, Signal::SIGKILL);
    let (_, gap) = lan.ask(Duration::from_secs(4));
    println!("failover without heartbeats: {gap:?}");
    assert!(gap < FAILOVER, "{gap:?}");
    let second = lan.owner();
    assert_ne!(second, owner);
    lan.start(owner);
    lan.await_status(owner, "the address", is_kept);

    lan.end(second, Signal::SIGTERM);
    let (_, gap) = lan.ask(Duration::from_secs(3));
    println!("planned move without heartbeats: {gap:?}");
    assert!(gap < PLANNED, "{gap:?}");
    lan.start(second);
    lan.await_status(second, "the address", is_kept);

    let third = lan.owner();
    let others: Vec<usize> = (0..3).filter(|node| *node != third).collect();
    lan.put(&others, OBJECTS);
    let (answered, _) = lan.ask(Duration::from_secs(4));
    assert!(!answered.is_empty());
    let heir = lan.owner();
    assert_ne!(heir, third, "a node that is no node any more announces nothing");
    for node in others {
        lan.await_status(node, "the address", is_kept);
    }
}

/// `MetalLB`'s speaker has the same port while it is being replaced.
#[test]
fn a_port_that_is_taken_is_waited_for() {
    let mut lan = Lan::new();
    let taken = inside(&lan.host("n0"), || {
        (std::net::UdpSocket::bind("0.0.0.0:7946").unwrap(), std::net::TcpListener::bind("127.0.0.1:7472").unwrap())
    });
    lan.start(0);
    std::thread::sleep(Duration::from_secs(2));
    assert!(lan.running[0].as_mut().unwrap().try_wait().unwrap().is_none(), "it waits instead of ending");
    let (udp, tcp) = taken;
    drop(tcp);
    lan.await_status(0, "what it waits for", |s| s["problems"].to_string().contains("PortInUse"));
    assert!(lan.ask(Duration::from_millis(300)).0.is_empty(), "until then it announces nothing");
    drop(udp);
    let (answered, after) = lan.ask(Duration::from_secs(3));
    println!("announced {after:?} after the port was free");
    assert_eq!(answered, BTreeSet::from([0]));
}
