//! Names of `ExternalName` Services, with a name server on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_ingress::balance::Balancers;
use landfall_ingress::resolve::{ResolveError, Resolver};
use landfall_ingress_model::address::Unusable;
use landfall_ingress_model::backend::{
    Affinity, Backend, BackendKey, BackendState, Balance, PortRef, Protocol, Target,
};
use landfall_ingress_model::settings::Origin;
use landfall_model::ObjectKey;
use support::dns::{NameServer, Zone};

fn resolver(server: &NameServer) -> Arc<Resolver> {
    Arc::new(Resolver::with_name_servers(Origin::Cluster, &[server.address]))
}

fn backend(target: Target) -> Arc<Backend> {
    let state = BackendState {
        protocol: Protocol::Http,
        affinity: Affinity::None,
        balance: Balance::RoundRobin,
        hash_by: None,
        cookie: None,
        target,
        unavailable: None,
    };
    let key = BackendKey { service: ObjectKey::new("shop", "db"), port: PortRef::Number(80) };
    Arc::new(Backend::new(key, Arc::new(state)))
}

fn name(text: &str) -> Arc<str> {
    text.into()
}

#[tokio::test]
async fn many_requests_at_once_ask_once() {
    let server = NameServer::start(Duration::from_millis(200));
    server.set("db.example", Zone::of(&["10.0.0.2", "10.0.0.1"], 60));
    let resolver = resolver(&server);
    let asked = (0..100).map(|_| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.resolve(&name("db.example")).await.unwrap() })
    });
    let answers = futures::future::join_all(asked.collect::<Vec<_>>()).await;
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|other| Arc::ptr_eq(first, other.as_ref().unwrap())), "they share one list");
    assert_eq!(first.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(server.queries(), 1);
}

#[tokio::test]
async fn one_who_gives_up_leaves_the_question_to_the_next() {
    let server = NameServer::start(Duration::from_millis(200));
    server.set("db.example", Zone::of(&["10.0.0.1"], 60));
    let resolver = resolver(&server);
    let impatient =
        tokio::time::timeout(Duration::from_millis(20), async { resolver.resolve(&name("db.example")).await });
    assert!(impatient.await.is_err());
    assert!(resolver.resolve(&name("db.example")).await.is_ok());
}

#[tokio::test]
async fn failures_are_remembered_for_a_moment() {
    let server = NameServer::start(Duration::ZERO);
    server.set("broken.example", Zone::Broken);
    let resolver = resolver(&server);
    let missing = name("missing.example");
    for _ in 0..50 {
        assert_eq!(resolver.resolve(&missing).await, Err(ResolveError::Missing(missing.clone())));
    }
    let for_missing = server.queries();
    assert!(for_missing <= 2, "{for_missing} queries for a name that does not exist");
    let begun = Instant::now();
    for _ in 0..50 {
        let outcome = resolver.resolve(&name("broken.example")).await;
        assert!(matches!(&outcome, Err(ResolveError::Failed { .. })), "{outcome:?}");
    }
    // The library repeats a failed query by itself; each second begins another one here.
    let for_broken = server.queries() - for_missing;
    let rounds = 1 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(for_broken <= 6 * rounds, "{for_broken} queries for a name that can't be resolved");
}

#[tokio::test]
async fn a_ttl_is_honoured_and_what_is_known_of_addresses_that_stay_is_kept() {
    let server = NameServer::start(Duration::ZERO);
    server.set("db.example", Zone::of(&["10.0.0.1", "10.0.0.2"], 1));
    let balancers = Balancers::new(resolver(&server));
    let target = Target::Dns { name: name("db.example"), port: 80 };
    let backend = backend(target.clone());
    let before = balancers.of(&backend, &target).await.unwrap();
    let dead = "10.0.0.2:80".parse().unwrap();
    for _ in 0..4 {
        before.failed(dead, Instant::now());
    }
    server.set("db.example", Zone::of(&["10.0.0.2", "10.0.0.3"], 60));
    let end = Instant::now() + Duration::from_secs(10);
    let after = loop {
        let now = balancers.of(&backend, &target).await.unwrap();
        if !Arc::ptr_eq(&before, &now) {
            break now;
        }
        assert!(Instant::now() < end, "the new addresses were not seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(after.addresses().map(|address| address.ip().to_string()).collect::<Vec<_>>(), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(after.stats(dead).unwrap().failures(), 1, "failures that belong together are one");
}

#[tokio::test]
async fn addresses_that_no_request_may_go_to_are_left_out() {
    let server = NameServer::start(Duration::ZERO);
    server.set("mixed.example", Zone::of(&["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fe80::1"], 60));
    server.set("bad.example", Zone::of(&["169.254.169.254", "127.0.0.1"], 60));
    let resolver = resolver(&server);
    let mixed = resolver.resolve(&name("mixed.example")).await.unwrap();
    assert_eq!(*mixed, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    let refused = ResolveError::Refused { name: name("bad.example"), cause: Unusable::LinkLocal };
    assert_eq!(resolver.resolve(&name("bad.example")).await, Err(refused));
    // Written as a name, an address is checked like one.
    for address in ["127.0.0.1", "::ffff:127.0.0.1", "100.100.100.200"] {
        let refused = resolver.resolve(&name(address)).await;
        assert!(matches!(refused, Err(ResolveError::Refused { .. })), "{address}: {refused:?}");
    }
    assert_eq!(resolver.resolve(&name("192.0.2.1")).await.unwrap().len(), 1);
}
