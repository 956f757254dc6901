//! Everything that is known of the cluster, kept as parsed facts, and what follows from it.

mod announced;
mod intake;
mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use landfall_model::{Change, ObjectKey, ObjectRef, Problem};

use crate::advert::{Advert, read_adverts};
use crate::crd::{
    AddressPool, BFDProfile, BGPAdvertisement, BGPPeer, Community, ConfigurationState, IPAddressPool, L2Advertisement,
    ServiceL2Status,
};
use crate::duty::{Duty, Ground, Orders, duties, hindrances};
use crate::metallb::Outdated;
use crate::node::{ExcludeLabel, NodeFacts, SliceFacts};
use crate::plan::{Grant, Inputs, Plan, TakenBy, plan};
use crate::pool::{Claims, Memory, Namespaces, Pool};
use crate::reason;
use crate::service::ServiceFacts;
use crate::speakers::{SpeakerRule, Speakers};
use crate::subnet::Subnet;
use announced::Announced;
pub use announced::Announcing;

/// A change to one of the kinds that the program reads.
#[derive(Clone, Debug)]
pub enum Input {
    /// Services.
    Service(Change<Service>),
    /// Endpoint slices.
    EndpointSlice(Change<EndpointSlice>),
    /// Nodes.
    Node(Change<Node>),
    /// Namespaces.
    Namespace(Change<Namespace>),
    /// Address pools.
    Pool(Change<IPAddressPool>),
    /// L2 advertisements.
    L2Advertisement(Change<L2Advertisement>),
    /// Pods of speakers.
    SpeakerPod(Change<Pod>),
    /// What speakers say of themselves.
    ConfigurationState(Change<ConfigurationState>),
    /// Which nodes announce which Services.
    L2Status(Change<ServiceL2Status>),
    /// Pools of `MetalLB` before 0.13, which are only reported.
    OldPool(Change<AddressPool>),
    /// The configuration of `MetalLB` before 0.13 is in one of these; it is only reported.
    ConfigMap(Change<ConfigMap>),
    /// Not served, only reported.
    BgpAdvertisement(Change<BGPAdvertisement>),
    /// Not served, only reported.
    BgpPeer(Change<BGPPeer>),
    /// Not served, only reported.
    BfdProfile(Change<BFDProfile>),
    /// Not served, only reported.
    Community(Change<Community>),
}

/// What decides how objects are read.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The `spec.loadBalancerClass` that is ours; `None`: Services without one.
    pub class: Option<Arc<str>>,
    /// Whether nodes can be excluded by label.
    pub exclude: ExcludeLabel,
    /// Which nodes have a speaker.
    pub speakers: SpeakerRule,
}

/// What changed since it was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Something that decides who has which address.
    pub allocation: bool,
    /// Something that decides who announces what.
    pub announcing: bool,
}

impl Changes {
    /// Whether anything changed.
    pub fn any(self) -> bool {
        self.allocation || self.announcing
    }
}

/// The facts.
#[derive(Debug)]
pub struct World {
    rules: Rules,
    services: BTreeMap<ObjectKey, Arc<ServiceFacts>>,
    service_problems: BTreeMap<ObjectKey, Vec<Problem>>,
    former: BTreeSet<ObjectKey>,
    /// What Services of other classes have.
    foreign: BTreeMap<ObjectKey, Vec<IpAddr>>,
    slices: BTreeMap<ObjectKey, (ObjectKey, SliceFacts)>,
    nodes: BTreeMap<Arc<str>, NodeFacts>,
    speakers: Speakers,
    namespaces: Namespaces,
    pool_objects: BTreeMap<ObjectKey, Arc<IPAddressPool>>,
    advert_objects: BTreeMap<ObjectKey, Arc<L2Advertisement>>,
    /// Advertisements as they were when they could last be read.
    good_adverts: BTreeMap<ObjectKey, Arc<L2Advertisement>>,
    unserved: BTreeSet<ObjectRef>,
    outdated: BTreeMap<ObjectRef, Outdated>,
    pools: Vec<Pool>,
    /// What the pools' entries meant when they could last be read.
    memory: Memory,
    adverts: Vec<Advert>,
    config_problems: Vec<Problem>,
    config_stale: bool,
    announced: Announced,
    /// What Services that share asked for when that was last agreed.
    agreed: BTreeMap<ObjectKey, Arc<ServiceFacts>>,
    changes: Changes,
    orders: Orders,
}

impl World {
    /// An empty world.
    pub fn new(rules: Rules) -> Self {
        Self {
            speakers: Speakers::new(rules.speakers.clone()),
            rules,
            services: BTreeMap::new(),
            service_problems: BTreeMap::new(),
            former: BTreeSet::new(),
            foreign: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            namespaces: Namespaces::new(),
            pool_objects: BTreeMap::new(),
            advert_objects: BTreeMap::new(),
            good_adverts: BTreeMap::new(),
            unserved: BTreeSet::new(),
            outdated: BTreeMap::new(),
            pools: Vec::new(),
            memory: Memory::default(),
            adverts: Vec::new(),
            config_problems: Vec::new(),
            config_stale: false,
            announced: Announced::default(),
            agreed: BTreeMap::new(),
            changes: Changes::default(),
            orders: Orders::default(),
        }
    }

    /// What [`Self::take_changes`] would tell.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// What changed since this was last asked. Kinds that change all the time without changing any fact, as Nodes
    /// and other people's endpoints do, don't count.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Takes note of what is announced, and reads pools and advertisements again if they changed.
    pub fn settle(&mut self) {
        self.announced.note_those_announced(&self.services);
        if !std::mem::take(&mut self.config_stale) {
            return;
        }
        let objects: Vec<_> = self.pool_objects.values().cloned().collect();
        (self.pools, self.config_problems) = self.memory.read(&objects, &self.namespaces, &self.claims());
        let objects: Vec<_> = self.advert_objects.values().cloned().collect();
        self.good_adverts.retain(|key, _| self.advert_objects.contains_key(key));
        let (adverts, problems) = read_adverts(&objects, &self.pools, &mut self.good_adverts);
        self.adverts = adverts;
        self.config_problems.extend(problems);
    }

    /// Decides who has which address.
    pub fn plan(
        &self,
        held: &BTreeMap<ObjectKey, Vec<IpAddr>>,
        taken: &BTreeMap<IpAddr, TakenBy>,
        look_ahead: usize,
    ) -> Plan {
        plan(&Inputs {
            pools: &self.pools,
            namespaces: &self.namespaces,
            services: &self.services,
            held,
            agreed: &self.agreed,
            taken,
            unannounced: &self.unannounced(),
            doubtful: &self.speakers.doubtful(self.nodes.values().flat_map(|n| &n.addresses).copied()),
            look_ahead,
        })
    }

    /// Remembers what was given under this plan, and on which terms Services share addresses.
    pub fn agree(&mut self, plan: &Plan) {
        self.announced.agree(plan);
        let shares = |(key, service): &(&ObjectKey, &Arc<ServiceFacts>)| {
            plan.grant(key).is_some() && (service.sharing.is_some() || self.agreed.contains_key(*key))
        };
        // Who has stopped to share is remembered as well while it has the address: it may have to leave it.
        let terms = self.services.iter().filter(shares);
        let entry = |(key, service): (&ObjectKey, &Arc<ServiceFacts>)| (key.clone(), service.clone());
        self.agreed = terms.map(entry).collect();
    }

    /// Takes in which addresses nodes announce right now.
    pub fn note_announced(&mut self, ips: &BTreeSet<IpAddr>) {
        self.announced.note(&self.services, |_, ip| ips.contains(&ip));
    }

    /// The Services that nodes announce right now, as the speakers say.
    pub fn announced(&self) -> BTreeSet<ObjectKey> {
        self.announced.services()
    }

    /// Which nodes announce which Services right now, as the speakers say.
    pub fn announcing(&self) -> impl Iterator<Item = &Announcing> {
        self.announced.all()
    }

    /// Who announces this address of the Service, as the speakers say.
    pub fn announcer(&self, service: &ObjectKey, ip: IpAddr) -> Option<&Announcing> {
        self.announced.of(service, ip)
    }

    /// Whether the Service was given the address and no node has announced it since, so that it may be exchanged.
    pub fn unannounced(&self) -> BTreeSet<(ObjectKey, IpAddr)> {
        self.announced.unannounced(&self.services)
    }

    /// What Services hold of which pool, as they themselves say.
    fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        for service in self.services.values().filter(|s| !s.status.is_empty()) {
            if let Some(pool) = &service.allocated_from {
                claims.entry(pool.clone()).or_default().extend(&service.status);
            }
        }
        claims
    }

    /// Derives who is to announce what.
    pub fn duties<'a>(
        &mut self,
        grants: impl Iterator<Item = (&'a ObjectKey, &'a Grant)>,
    ) -> (BTreeMap<IpAddr, Duty>, Vec<Problem>) {
        let mut orders = std::mem::take(&mut self.orders);
        let found = duties(grants, &self.ground(&self.endpoints()), &mut orders);
        self.orders = orders;
        found
    }

    /// Says which Services nobody can announce.
    pub fn hindrances<'a>(&self, grants: impl Iterator<Item = (&'a ObjectKey, &'a Grant)>) -> Vec<Problem> {
        hindrances(grants, &self.ground(&self.endpoints()))
    }

    fn endpoints(&self) -> BTreeMap<ObjectKey, SliceFacts> {
        let mut endpoints: BTreeMap<ObjectKey, SliceFacts> = BTreeMap::new();
        for (service, facts) in self.slices.values().filter(|(service, _)| self.services.contains_key(service)) {
            endpoints.entry(service.clone()).or_default().extend(facts);
        }
        endpoints
    }

    fn ground<'a>(&'a self, endpoints: &'a BTreeMap<ObjectKey, SliceFacts>) -> Ground<'a> {
        Ground {
            services: &self.services,
            pools: &self.pools,
            adverts: &self.adverts,
            nodes: &self.nodes,
            endpoints,
            speakers: self.speakers.nodes(),
        }
    }

    /// What the Services' status says: the addresses of pools that they have.
    pub fn granted_by_status(&self) -> BTreeMap<ObjectKey, Grant> {
        self.grants_of(|service| service.status.clone())
    }

    /// Grants for the addresses that `ips` tells of each Service, without those of no pool.
    pub fn grants_of(&self, ips: impl Fn(&ServiceFacts) -> Vec<IpAddr>) -> BTreeMap<ObjectKey, Grant> {
        let grant = |service: &ServiceFacts| {
            let mut ips = ips(service);
            ips.retain(|ip| self.pool_of(*ip).is_some());
            ips.sort();
            let pool = self.pool_of(*ips.first()?)?;
            Some(Grant { ips, pool: pool.name().into() })
        };
        self.services.iter().filter_map(|(key, service)| Some((key.clone(), grant(service)?))).collect()
    }

    /// The pool that has `ip`.
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|p| p.contains(ip))
    }

    /// The Services that are ours.
    pub fn services(&self) -> &BTreeMap<ObjectKey, Arc<ServiceFacts>> {
        &self.services
    }

    /// Services that were ours and still carry what we wrote.
    pub fn former(&self) -> &BTreeSet<ObjectKey> {
        &self.former
    }

    /// The nodes.
    pub fn nodes(&self) -> &BTreeMap<Arc<str>, NodeFacts> {
        &self.nodes
    }

    /// The pools.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// The advertisements, in the order of their keys.
    pub fn adverts(&self) -> &[Advert] {
        &self.adverts
    }

    /// What is wrong with pools, advertisements and annotations; what a plan finds is not among it.
    pub fn problems(&self) -> Vec<Problem> {
        let unserved = self.unserved.iter().map(|object| {
            let problem =
                Problem::new(object.clone(), reason::NOT_SERVED, "BGP is not served; the object has no effect");
            problem.remedy("announce the pool with an L2Advertisement, or keep a BGP speaker for it").warning()
        });
        let services = self.service_problems.values().flatten().cloned();
        let outdated = self.outdated.iter().map(|(object, old)| old.problem(object));
        self.config_problems.iter().cloned().chain(services).chain(unserved).chain(outdated).collect()
    }

    /// What to write in place of `MetalLB`'s configuration of before 0.13, as YAML.
    pub fn replacement(&self, object: &ObjectRef) -> Option<String> {
        self.outdated.get(object).map(Outdated::replacement)
    }

    /// What the speakers wrote into the pools' status: addresses that something on the network uses.
    pub fn reported_taken(&self) -> BTreeMap<IpAddr, (TakenBy, Arc<str>)> {
        let entries = self.pool_objects.values().filter_map(|p| p.status.as_ref()).flat_map(|s| &s.taken);
        let read = entries.filter_map(|e| Some((e.ip.parse().ok()?, (TakenBy::read(e)?, e.node.as_str().into()))));
        // Who accuses a node knew it less well than its own speaker.
        let ours = |by: &TakenBy| matches!(by, TakenBy::ForeignHost(mac) if self.speakers.is_nodes_own(*mac));
        read.filter(|(_, (by, _))| !ours(by)).collect()
    }

    /// The pools as they were read.
    pub fn pool_objects(&self) -> &BTreeMap<ObjectKey, Arc<IPAddressPool>> {
        &self.pool_objects
    }

    /// Addresses that belong to nodes, to the subnets that they are on, or to Services that aren't ours, and so are
    /// never given.
    pub fn reserved(&self) -> BTreeMap<IpAddr, TakenBy> {
        let foreign = self.foreign.iter().flat_map(|(key, ips)| ips.iter().map(|ip| (*ip, key.clone())));
        let mut reserved: BTreeMap<IpAddr, TakenBy> = foreign.map(|(ip, key)| (ip, TakenBy::Service(key))).collect();
        reserved.extend(self.speakers.reserved());
        let nodes = self.nodes.values();
        reserved.extend(nodes.flat_map(|n| n.addresses.iter().map(|ip| (*ip, TakenBy::Node(n.name.clone())))));
        reserved
    }

    /// The nodes that have a speaker, as pods and speakers say.
    pub fn speakers(&self) -> &Speakers {
        &self.speakers
    }

    /// What the program itself sees of the subnets of `node`.
    pub fn set_subnets(&mut self, node: &Arc<str>, subnets: Vec<Subnet>) {
        if self.speakers.set_own_subnets(node, subnets) {
            self.changes = Changes { allocation: true, announcing: true };
        }
    }
}
