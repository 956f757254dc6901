//! Interfaces: what the first reading says, and that every change arrives.

use std::time::Duration;

use landfall_lb_announcer::edge::links::{Link, LinkEvent, LinkWatch, Selection};
use pnet_base::MacAddr;

use crate::namespaces::{NODE_MAC, Namespaces, SOON};

/// Waits until the interface called `name` is as `holds` wants it, and returns it; `None` stands for its absence.
async fn await_link(watch: &mut LinkWatch, name: &str, holds: impl Fn(Option<&Link>) -> bool) -> Option<Link> {
    let waiting = async {
        loop {
            let events = watch.changed().await.unwrap();
            assert!(!events.is_empty());
            for event in &events {
                if let LinkEvent::Changed { before, after } = event {
                    assert_ne!(before, after);
                }
                assert_eq!(watch.links().get(event.ifindex()).is_none(), matches!(event, LinkEvent::Gone(_)));
            }
            if holds(watch.links().named(name)) {
                return watch.links().named(name).cloned();
            }
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("the change arrives")
}

#[test]
fn the_first_reading_is_complete() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let watch = LinkWatch::open().await.unwrap();
        let names: Vec<&str> = watch.links().iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0"]);
        let eth0 = watch.links().named("eth0").unwrap();
        assert_eq!(eth0.mac, Some(NODE_MAC));
        assert!(eth0.up && eth0.carrier && eth0.traits.broadcast && eth0.traits.multicast, "{eth0:?}");
        for address in ["192.168.89.1/24", "fd89::1/64"] {
            assert!(eth0.addresses.contains(&address.parse().unwrap()), "{eth0:?}");
        }
        let fit: Vec<_> = Selection::default().fit(watch.links()).map(|link| link.name.clone()).collect();
        assert_eq!(fit, ["eth0"]);
    });
}

#[test]
fn carrier_mac_addresses_and_new_interfaces_are_reported() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let mut watch = LinkWatch::open().await.unwrap();
        let watch = &mut watch;
        // Turning off the other end takes the carrier away, as a pulled cable does.
        lab.ip_client("link set eth0 down");
        let link = await_link(watch, "eth0", |link| link.is_some_and(|link| !link.carrier)).await.unwrap();
        assert!(link.up, "{link:?}");
        lab.ip_client("link set eth0 up");
        await_link(watch, "eth0", |link| link.is_some_and(|link| link.carrier)).await;

        let other = MacAddr::new(2, 0, 0, 0, 0x88, 0x99);
        lab.ip_node(&format!("link set eth0 address {other}"));
        await_link(watch, "eth0", |link| link.is_some_and(|link| link.mac == Some(other))).await;

        let address = "192.168.90.1/25".parse().unwrap();
        lab.ip_node("addr add 192.168.90.1/25 dev eth0");
        await_link(watch, "eth0", |link| link.is_some_and(|link| link.addresses.contains(&address))).await;
        lab.ip_node("addr del 192.168.90.1/25 dev eth0");
        await_link(watch, "eth0", |link| link.is_some_and(|link| !link.addresses.contains(&address))).await;

        lab.ip_node("link add br0 type bridge");
        await_link(watch, "br0", |link| link.is_some()).await;
        lab.ip_node("link set eth0 master br0");
        let link = await_link(watch, "eth0", |link| link.is_some_and(|link| link.master.is_some())).await.unwrap();
        assert_eq!(Selection::default().refusal(&link, watch.links()).unwrap().to_string(), "it is part of br0");
        lab.ip_node("link set eth0 nomaster");
        await_link(watch, "eth0", |link| link.is_some_and(|link| link.master.is_none())).await;

        lab.ip_node("link del br0");
        await_link(watch, "br0", |link| link.is_none()).await;
    });
}

#[test]
fn lost_notifications_are_made_good() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let mut watch = LinkWatch::open().await.unwrap();
        lab.ip_node("link add late0 type veth peer name late1");
        lab.ip_node("link set late0 up");
        // This thread is the whole runtime, so nobody reads while thousands of notifications pile up.
        for _ in 0..40 {
            let flap: String = (0..100).map(|_| "link set late1 up\nlink set late1 down\n").collect();
            lab.batch_node(&flap);
        }
        lab.ip_node("link set late1 up");
        lab.ip_node("addr add 192.168.91.1/24 dev late0");
        let address = "192.168.91.1/24".parse().unwrap();
        let link = await_link(&mut watch, "late0", |link| {
            link.is_some_and(|link| link.carrier && link.addresses.contains(&address))
        });
        assert!(link.await.is_some());
        let quiet = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(quiet.is_err() || watch.links().named("late1").is_some_and(|link| link.up), "{quiet:?}");
    });
}
