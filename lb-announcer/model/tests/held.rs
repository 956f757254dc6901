//! What a Service has stays: through a slip in a pool, through foreign answers, and over a restart.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_lb_model::crd::{IPAddressPool, ServiceL2Status};
use landfall_lb_model::node::ExcludeLabel;
use landfall_lb_model::plan::{Plan, TakenBy};
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::world::{Input, Rules, World};
use landfall_model::{Change, ObjectKey};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn web() -> ObjectKey {
    ObjectKey::new("default", "web")
}

fn ip(last: u8) -> IpAddr {
    [192, 168, 77, last].into()
}

/// A controller with its folder or cluster.
struct Scene {
    world: World,
    held: BTreeMap<ObjectKey, Vec<IpAddr>>,
    taken: BTreeMap<IpAddr, TakenBy>,
}

impl Scene {
    fn new() -> Self {
        let rules = Rules { class: None, exclude: ExcludeLabel::Heed, speakers: SpeakerRule::EveryNode };
        Self { world: World::new(rules), held: BTreeMap::new(), taken: BTreeMap::new() }
    }

    fn pool(&mut self, addresses: &[&str]) -> &mut Self {
        let object: Arc<IPAddressPool> = read(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": "lan", "namespace": "metallb-system"}, "spec": {"addresses": addresses},
        }));
        self.world.apply(Input::Pool(Change::Apply(object)));
        self
    }

    fn service(&mut self, name: &str, status: &Value) -> &mut Self {
        let object = read(json!({
            "metadata": {"name": name, "namespace": "default", "annotations": {"metallb.io/ip-allocated-from-pool": "lan"}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}, "status": status,
        }));
        self.world.apply(Input::Service(Change::Apply(object)));
        self
    }

    fn announced_by(&mut self, node: &str) -> &mut Self {
        let object: Arc<ServiceL2Status> = read(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status",
            "metadata": {"name": "l2-1", "namespace": "landfall-system"}, "spec": {},
            "status": {"node": node, "serviceName": "web", "serviceNamespace": "default", "interfaces": []},
        }));
        self.world.apply(Input::L2Status(Change::Apply(object)));
        self
    }

    fn foreign(&mut self, last: u8) -> &mut Self {
        let mac = format!("aa:bb:cc:dd:ee:{last:02x}").parse().unwrap();
        self.taken.insert(ip(last), TakenBy::ForeignHost(mac));
        self
    }

    fn plan(&mut self) -> Plan {
        self.world.settle();
        let plan = self.world.plan(&self.held, &self.taken, 0);
        self.world.agree(&plan);
        self.held = plan.held();
        plan
    }

    fn address(&mut self) -> Vec<IpAddr> {
        self.plan().grant(&web()).map(|g| g.ips.clone()).unwrap_or_default()
    }

    /// As a controller that starts: it knows what the objects say.
    fn restarted(&mut self) -> &mut Self {
        let statuses = self.world.services().iter().map(|(key, s)| (key.clone(), s.status.clone()));
        self.held = statuses.filter(|(_, ips)| !ips.is_empty()).collect();
        self
    }

    fn problems(&self) -> Vec<String> {
        self.world.problems().iter().map(landfall_model::Problem::message).collect()
    }
}

fn holding(last: u8) -> Value {
    json!({"loadBalancer": {"ingress": [{"ip": ip(last).to_string()}]}})
}

#[test]
fn a_slip_in_a_pool_takes_nothing_away_and_is_reported() {
    for slip in ["192.168.77.200-192.168.77.25", "192.168.77.200/33", "192.168.77.2000-192.168.77.250", ""] {
        let mut scene = Scene::new();
        assert_eq!(scene.pool(&["192.168.77.200-192.168.77.250"]).service("web", &json!({})).address(), [ip(200)]);
        assert_eq!(scene.pool(&[slip]).address(), [ip(200)], "{slip}");
        let problems = scene.problems();
        let told = "until it is corrected, it means what it did before: 192.168.77.200-192.168.77.250";
        assert!(problems.iter().any(|p| p.contains(told)), "{slip}: {problems:#?}");
        assert_eq!(
            scene.service("new", &json!({})).plan().grant(&ObjectKey::new("default", "new")).unwrap().ips,
            [ip(201)]
        );
        assert_eq!(scene.pool(&["192.168.77.100-192.168.77.150"]).address(), [ip(101)], "a real change counts");
    }
}

#[test]
fn what_is_held_of_a_pool_that_cannot_be_read_stays_over_a_restart() {
    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.25"]).service("web", &holding(207)).service("new", &json!({}));
    let plan = scene.restarted().plan();
    assert_eq!(plan.grant(&web()).unwrap().ips, [ip(207)]);
    assert!(plan.waiting.contains_key(&ObjectKey::new("default", "new")), "nothing else of it is known");
    assert_eq!(scene.world.granted_by_status()[&web()].ips, [ip(207)], "speakers go on announcing it");
    let problems = scene.problems();
    let told = "until it is corrected, Services keep what they have of this pool: 192.168.77.207";
    assert!(problems.iter().any(|p| p.contains(told)), "{problems:#?}");
    assert_eq!(scene.pool(&["192.168.77.200-192.168.77.250"]).address(), [ip(207)]);
}

#[test]
fn while_an_exclusion_cannot_be_read_nothing_new_is_given() {
    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.250", "!192.168.77.2o0"]).service("web", &holding(207));
    scene.service("new", &json!({}));
    let plan = scene.restarted().plan();
    assert_eq!(plan.grant(&web()).unwrap().ips, [ip(207)]);
    assert!(plan.waiting.contains_key(&ObjectKey::new("default", "new")));
}

#[test]
fn an_address_is_exchanged_only_until_somebody_announced_it() {
    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.250"]).service("web", &json!({}));
    assert_eq!(scene.address(), [ip(200)]);
    assert_eq!(scene.foreign(200).address(), [ip(201)], "it was given moments ago");
    scene.service("web", &holding(201)).announced_by("n1");
    assert_eq!(scene.foreign(201).address(), [ip(201)], "it was announced");
    let plan = scene.plan();
    let told: Vec<String> = plan.problems.iter().map(landfall_model::Problem::message).collect();
    assert!(told.iter().any(|p| p.contains("aa:bb:cc:dd:ee:c9 answers for 192.168.77.201 too")), "{told:#?}");
    assert!(plan.contested.contains_key(&web()));
    // The node stops and takes its object along.
    scene.world.apply(Input::L2Status(Change::Replace(Vec::new())));
    assert!(scene.world.take_changes().allocation);
    assert_eq!(scene.address(), [ip(201)], "that is remembered");
}

#[test]
fn a_controller_that_starts_takes_away_only_what_is_marked_as_never_announced() {
    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.250"]).service("web", &holding(203)).foreign(203);
    assert_eq!(scene.restarted().address(), [ip(203)], "whoever gave it, it may be in use");

    let mut status = holding(203);
    status["conditions"] = json!([{"type": "landfall.dev/NotYetAnnounced", "status": "True", "reason": "NotYetAnnounced",
        "message": "no node has announced 192.168.77.203 yet; should", "lastTransitionTime": "2020-01-01T00:00:00Z"}]);
    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.250"]).service("web", &status).foreign(203);
    assert_eq!(scene.restarted().address(), [ip(200)]);

    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.250"]).service("web", &status).announced_by("n1").foreign(203);
    assert_eq!(scene.restarted().address(), [ip(203)], "it was announced while no controller looked");
    assert_eq!(scene.world.unannounced(), BTreeSet::new());
}

#[test]
fn a_view_that_takes_every_neighbour_for_a_foreign_host_costs_nobody_an_address() {
    let mut scene = Scene::new();
    scene.pool(&["192.168.77.200-192.168.77.204"]);
    for last in 200..205 {
        scene.service(&format!("s{last}"), &holding(last)).foreign(last);
    }
    let plan = scene.restarted().plan();
    assert_eq!((plan.keep.len(), plan.assign.len(), plan.release.len()), (5, 0, 0), "{plan:#?}");
    assert_eq!(plan.contested.len(), 5);
}
