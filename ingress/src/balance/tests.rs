use landfall_ingress_model::backend::{Affinity, BackendKey, BackendState, Balance, PortRef, Protocol};
use landfall_ingress_model::settings::Origin;
use landfall_model::ObjectKey;

use super::*;

fn balancers() -> Arc<Balancers> {
    Balancers::new(Arc::new(Resolver::new(Origin::Cluster)))
}

fn endpoints(list: &[&str]) -> Target {
    Target::Endpoints(list.iter().map(|text| text.parse().unwrap()).collect())
}

fn backend(target: &Target) -> Arc<Backend> {
    let state = BackendState {
        protocol: Protocol::Http,
        affinity: Affinity::None,
        balance: Balance::RoundRobin,
        hash_by: None,
        cookie: None,
        target: target.clone(),
        unavailable: None,
    };
    let key = BackendKey { service: ObjectKey::new("shop", "db"), port: PortRef::Number(80) };
    Arc::new(Backend::new(key, Arc::new(state)))
}

#[tokio::test]
async fn a_balancer_stays_while_the_list_does_and_then_hands_on_what_it_knows() {
    let (balancers, now) = (balancers(), Instant::now());
    let target = endpoints(&["10.0.0.1:80", "10.0.0.2:80"]);
    let backend = backend(&target);
    assert!(balancers.known(&backend).is_none(), "nobody has asked for it yet");
    let first = balancers.of(&backend, &target).await.unwrap();
    assert!(Arc::ptr_eq(&first, &balancers.of(&backend, &target).await.unwrap()));
    let dead = "10.0.0.2:80".parse().unwrap();
    first.failed(dead, now);
    let changed = balancers.of(&backend, &endpoints(&["10.0.0.2:80", "10.0.0.3:80"])).await.unwrap();
    assert!(changed.is_ejected(dead, now) && balancers.is_ejected(&backend, dead, now));
    assert_eq!(
        changed.addresses().map(|address| address.to_string()).collect::<Vec<_>>(),
        ["10.0.0.2:80", "10.0.0.3:80"]
    );
}

#[tokio::test]
async fn a_name_is_balanced_as_endpoints_are() {
    let (balancers, now) = (balancers(), Instant::now());
    let name = |port| Target::Dns { name: "192.0.2.1".into(), port };
    let (one, other) = (backend(&name(80)), backend(&name(81)));
    let first = balancers.of(&one, &name(80)).await.unwrap();
    let address = "192.0.2.1:80".parse().unwrap();
    first.failed(address, now);
    assert!(Arc::ptr_eq(&first, &balancers.of(&one, &name(80)).await.unwrap()));
    assert!(balancers.is_ejected(&one, address, now));
    let second = balancers.of(&other, &name(81)).await.unwrap();
    assert_eq!(second.addresses().next().unwrap().port(), 81);
}

#[tokio::test]
async fn what_no_table_has_any_more_is_forgotten() {
    let balancers = balancers();
    let target = endpoints(&["10.0.0.1:80"]);
    for _ in 0..10_000 {
        let backend = backend(&target);
        balancers.of(&backend, &target).await.unwrap();
    }
    let kept: usize = balancers.parts.iter().map(|part| part.read().unwrap().len()).sum();
    assert!(kept <= 1_000, "{kept} are kept of which none is used");
}
