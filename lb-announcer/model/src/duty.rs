//! Duties: which nodes are to announce each address, in which order, and on which interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::address::Family;
use crate::advert::{Advert, Interfaces};
use crate::election::Rank;
use crate::node::{Flaw, NodeFacts, SliceFacts};
use crate::plan::Grant;
use crate::pool::Pool;
use crate::reason;
use crate::service::{ServiceFacts, TrafficPolicy};

/// A node that can announce an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The node.
    pub node: Arc<str>,
    /// Where it may announce.
    pub interfaces: Interfaces,
    /// An owner leaves only for a candidate of a lower level. Grows along the order, not always strictly.
    pub level: usize,
}

/// An address to announce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Duty {
    /// The address.
    pub ip: IpAddr,
    /// The Services that have it.
    pub services: Vec<ObjectKey>,
    /// Who can announce it, the first choice first. Whether a node is alive is not considered here.
    pub candidates: Vec<Candidate>,
}

/// What duties are derived from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The Services that are ours.
    pub services: &'a BTreeMap<ObjectKey, Arc<ServiceFacts>>,
    /// The pools.
    pub pools: &'a [Pool],
    /// The advertisements.
    pub adverts: &'a [Advert],
    /// The nodes.
    pub nodes: &'a BTreeMap<Arc<str>, NodeFacts>,
    /// Where each Service's endpoints are.
    pub endpoints: &'a BTreeMap<ObjectKey, SliceFacts>,
    /// The nodes that have a speaker; `None`: all of them.
    pub speakers: Option<&'a BTreeSet<Arc<str>>>,
}

/// Derives the duties from who has which address, and says for which Services there is nobody.
pub fn duties<'a>(
    grants: impl Iterator<Item = (&'a ObjectKey, &'a Grant)>,
    ground: &Ground<'_>,
    orders: &mut Orders,
) -> (BTreeMap<IpAddr, Duty>, Vec<Problem>) {
    let (claims, mut problems) = claims(grants, ground);
    let mut before = std::mem::take(&mut orders.0);
    let mut duties = BTreeMap::new();
    for (ip, claims) in claims {
        let able = agree(ip, &claims, &mut problems);
        // All are hashed by the same address, since two orders for one address would have two nodes announce it.
        let hashed = claims.iter().map(|c| c.hashed).min().unwrap_or(ip);
        let follows_pods = claims.iter().any(|claim| claim.follows_pods);
        let same = |order: &Order| (order.hashed, order.follows_pods) == (hashed, follows_pods) && order.able == able;
        let known = before.remove(&ip).filter(same);
        let order = known.unwrap_or_else(|| Order::new(hashed, able, follows_pods));
        let services = claims.into_iter().map(|claim| claim.key).collect();
        duties.insert(ip, Duty { ip, services, candidates: order.candidates.clone() });
        orders.0.insert(ip, order);
    }
    (duties, problems)
}

/// The orders that were worked out last: a change concerns few addresses, and each hash takes its time.
#[derive(Debug, Default)]
pub struct Orders(BTreeMap<IpAddr, Order>);

#[derive(Debug)]
struct Order {
    hashed: IpAddr,
    able: Arc<Able>,
    follows_pods: bool,
    candidates: Vec<Candidate>,
}

impl Order {
    /// Where pods are started and ended decides about an address that follows them, so it doesn't go back to a node only
    /// because one was started there: each move cuts connections. Others return, lest one node ends up with all.
    fn new(hashed: IpAddr, able: Arc<Able>, follows_pods: bool) -> Self {
        let rank = |(node, fitness): (&Arc<str>, &Fitness)| {
            let candidate = Candidate { node: node.clone(), interfaces: fitness.interfaces.clone(), level: 0 };
            (Rank::new(node, hashed, fitness.score, fitness.flaw), candidate)
        };
        let mut ranked: Vec<(Rank, Candidate)> = able.iter().map(rank).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let (mut level, mut before) = (0, None);
        for (index, (rank, candidate)) in ranked.iter_mut().enumerate() {
            if !follows_pods || !before.is_some_and(|before: Rank| before.is_as_good_as(*rank)) {
                level = index;
            }
            candidate.level = level;
            before = Some(*rank);
        }
        let candidates = ranked.into_iter().map(|(_, candidate)| candidate).collect();
        Self { hashed, able, follows_pods, candidates }
    }
}

/// Says for which Services there is nobody to announce them, which costs less than to say who does.
pub fn hindrances<'a>(grants: impl Iterator<Item = (&'a ObjectKey, &'a Grant)>, ground: &Ground<'_>) -> Vec<Problem> {
    let (claims, mut problems) = claims(grants, ground);
    for (ip, claims) in claims.iter().filter(|(_, claims)| claims.len() > 1) {
        agree(*ip, claims, &mut problems);
    }
    problems
}

/// The nodes that can announce.
type Able = BTreeMap<Arc<str>, Fitness>;

/// How well a node can announce, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fitness {
    /// The gravest of what speaks against it.
    flaw: Option<Flaw>,
    score: i64,
    interfaces: Interfaces,
}

/// Why no node can, and what to do about it.
type Nobody = (String, &'static str);

/// What a Service asks of one of its addresses.
struct Claim {
    key: ObjectKey,
    hashed: IpAddr,
    nodes: Arc<Able>,
    follows_pods: bool,
}

fn claims<'a>(
    grants: impl Iterator<Item = (&'a ObjectKey, &'a Grant)>,
    ground: &Ground<'_>,
) -> (BTreeMap<IpAddr, Vec<Claim>>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut claims: BTreeMap<IpAddr, Vec<Claim>> = BTreeMap::new();
    let mut known = BTreeMap::new();
    for (key, grant) in grants {
        let (Some(service), Some(first)) = (ground.services.get(key), grant.ips.iter().min()) else { continue };
        let follows_pods = service.policy == TrafficPolicy::Local;
        // Both families mostly have the same thing wrong with them.
        let mut found: Vec<Problem> = Vec::new();
        for ip in &grant.ips {
            let (nodes, problem) = match ground.able(service, grant, *ip, &mut known) {
                Ok(nodes) => {
                    let problem = unfit(*ip, service, &nodes);
                    (nodes, problem)
                }
                Err(problem) => (Arc::default(), Some(*problem)),
            };
            found.extend(problem.filter(|problem| !found.contains(problem)));
            claims.entry(*ip).or_default().push(Claim { key: key.clone(), hashed: *first, nodes, follows_pods });
        }
        problems.extend(found);
    }
    (claims, problems)
}

/// The nodes that can announce `ip` for most of the Services that have it: for all of them wherever that is possible.
/// Those that may be left out have a problem.
fn agree(ip: IpAddr, claims: &[Claim], problems: &mut Vec<Problem>) -> Arc<Able> {
    // A Service that nobody can announce has its own problem, and doesn't keep the others from being announced.
    let possible: Vec<&Claim> = claims.iter().filter(|c| !c.nodes.is_empty()).collect();
    if let [] | [_] = possible.as_slice() {
        return possible.first().map(|claim| claim.nodes.clone()).unwrap_or_default();
    }
    let mut able: BTreeMap<Arc<str>, (usize, Fitness)> = BTreeMap::new();
    for (node, fitness) in possible.iter().flat_map(|claim| &*claim.nodes) {
        match able.get_mut(node) {
            Some((count, all)) => {
                *count += 1;
                all.score += fitness.score;
                all.interfaces = all.interfaces.clone().union(fitness.interfaces.clone());
            }
            None => drop(able.insert(node.clone(), (1, fitness.clone()))),
        }
    }
    let most = able.values().map(|(count, _)| *count).max().unwrap_or_default();
    able.retain(|_, (count, _)| *count == most);
    let left_out = possible.iter().filter(|claim| able.keys().any(|node| !claim.nodes.contains_key(node)));
    problems.extend(left_out.map(|claim| no_common_node(ip, claim, &possible)));
    Arc::new(able.into_iter().map(|(node, (_, fitness))| (node, fitness)).collect())
}

impl Ground<'_> {
    /// The nodes that can announce `ip` for the Service. Under policy Cluster that depends on the advertisements only, so
    /// whatever is `known` for a set of them holds for the next Service too. Under policy Local each family is announced
    /// where it has endpoints.
    fn able(
        &self,
        service: &ServiceFacts,
        grant: &Grant,
        ip: IpAddr,
        known: &mut BTreeMap<Vec<usize>, Result<Arc<Able>, Nobody>>,
    ) -> Result<Arc<Able>, Box<Problem>> {
        let about = ObjectRef::new("Service", service.key.clone());
        let none = SliceFacts::default();
        let endpoints = self.endpoints.get(&service.key).unwrap_or(&none);
        let (family, local) = (Family::of(ip), service.policy == TrafficPolicy::Local);
        let nodes = local.then(|| endpoints.nodes(family, self.nodes));
        let serves = endpoints.serves(self.nodes);
        if !serves || nodes.as_ref().is_some_and(BTreeSet::is_empty) {
            let cause = if serves {
                format!(
                    "{ip} is not announced: no node has an {family} endpoint that can serve, as externalTrafficPolicy Local requires"
                )
            } else {
                "the address is not announced: no endpoint can serve".to_owned()
            };
            let problem = Problem::new(about, reason::NO_ENDPOINTS, cause);
            return Err(Box::new(
                problem.remedy("check that the Service's selector selects pods that are ready").warning(),
            ));
        }
        let pool = self.pools.iter().find(|p| p.name() == &*grant.pool);
        let covers = |a: &Advert| pool.is_some_and(|p| a.covers_pool(p)) && a.covers_service(service);
        let covering: Vec<usize> = (0..).zip(self.adverts).filter(|(_, a)| covers(a)).map(|(index, _)| index).collect();
        if covering.is_empty() {
            let cause =
                format!("the address is not announced: no L2Advertisement covers pool {} and the Service", grant.pool);
            let problem = Problem::new(about, reason::NO_MATCHING_ADVERTISEMENT, cause);
            return Err(Box::new(
                problem.remedy("create an L2Advertisement that names the pool, or one with an empty spec"),
            ));
        }
        if service.sharing.is_some() && covering.iter().any(|index| self.adverts[*index].selects_services()) {
            let cause = "the address is not announced: an L2Advertisement with serviceSelectors can't announce a shared address";
            let problem = Problem::new(about, reason::SHARED_IP_WITH_SERVICE_SELECTOR, cause);
            let field = format!("metadata.annotations[{}]", crate::service::ALLOW_SHARED_IP);
            let value = service.sharing.as_deref().unwrap_or_default();
            return Err(Box::new(problem.at(field, value).remedy("remove the annotation, or the serviceSelectors")));
        }
        let found = match nodes {
            Some(nodes) => self.willing(&covering, Some(&nodes)),
            None => match known.get(&covering) {
                Some(found) => found.clone(),
                None => known.entry(covering.clone()).or_insert(self.willing(&covering, None)).clone(),
            },
        };
        found.map_err(|(why, remedy)| {
            let problem = Problem::new(about, reason::NO_ELIGIBLE_NODE, format!("the address is not announced: {why}"));
            Box::new(problem.remedy(remedy))
        })
    }

    /// The nodes that one of these advertisements selects; with `served`, only those among them.
    fn willing(&self, covering: &[usize], served: Option<&BTreeSet<Arc<str>>>) -> Result<Arc<Able>, Nobody> {
        let adverts: Vec<&Advert> = covering.iter().map(|index| &self.adverts[*index]).collect();
        let mut able = Able::new();
        let mut refused = BTreeSet::new();
        for node in self.nodes.values() {
            let speaks = self.speakers.is_none_or(|s| s.contains(&node.name));
            let entry = if speaks { eligible(node, served, &adverts) } else { Err(SILENT.to_owned()) };
            match entry {
                Ok(entry) => drop(able.insert(node.name.clone(), entry)),
                Err(why) => drop(refused.insert(format!("node {}: {why}", node.name))),
            }
        }
        if !able.is_empty() {
            return Ok(Arc::new(able));
        }
        Err(if self.nodes.is_empty() {
            ("no node is known".to_owned(), "make one of the nodes able to announce it")
        } else if self.speakers.is_some_and(BTreeSet::is_empty) {
            ("no speaker runs on any node".to_owned(), "look at the speaker's DaemonSet and its Events")
        } else {
            let list: Vec<String> = refused.into_iter().collect();
            (list.join(", "), "make one of the nodes able to announce it")
        })
    }
}

const SILENT: &str = "no speaker runs on it";

/// A Service that shares an address with others and may be left out, since no node can announce it for all.
fn no_common_node(ip: IpAddr, claim: &Claim, all: &[&Claim]) -> Problem {
    let others: Vec<String> = all.iter().filter(|c| c.key != claim.key).map(|c| c.key.to_string()).collect();
    let nodes: Vec<&str> = claim.nodes.keys().map(|node| &**node).collect();
    let cause = format!(
        "no node can announce {ip} for all Services that share it, so this one may get no traffic: it needs one of \
         the nodes {}, which {} can't use",
        nodes.join(", "),
        others.join(", ")
    );
    let problem = Problem::new(ObjectRef::new("Service", claim.key.clone()), reason::NO_COMMON_NODE, cause);
    problem
        .at("spec.externalTrafficPolicy", "Local")
        .remedy("run pods of all of them on one node, or use externalTrafficPolicy Cluster, or addresses of their own")
}

/// Says what speaks against every node that can announce the address.
fn unfit(ip: IpAddr, service: &ServiceFacts, able: &Able) -> Option<Problem> {
    // One that is cordoned announces well enough.
    if able.is_empty() || able.values().any(|fitness| fitness.flaw.is_none_or(|flaw| flaw == Flaw::Cordoned)) {
        return None;
    }
    let nodes = able.iter().filter_map(|(node, fitness)| Some(format!("node {node}: {}", fitness.flaw?)));
    let nodes: Vec<String> = nodes.collect();
    let family = Family::of(ip);
    let cause =
        format!("only nodes that others are preferred to can announce the {family} address: {}", nodes.join(", "));
    let problem = Problem::new(ObjectRef::new("Service", service.key.clone()), reason::NO_FIT_NODE, cause);
    Some(problem.remedy("make one of the nodes fit; until then the best of them announces it").warning())
}

fn eligible(node: &NodeFacts, served: Option<&BTreeSet<Arc<str>>>, adverts: &[&Advert]) -> Result<Fitness, String> {
    if served.is_some_and(|nodes| !nodes.contains(&node.name)) {
        return Err("no endpoint on it can serve, as externalTrafficPolicy Local requires".to_owned());
    }
    let covering = adverts.iter().filter_map(|a| Some((a.score(node)?, a.interfaces.clone())));
    let all = covering.reduce(|(score, interfaces), (more, also)| (score + more, interfaces.union(also)));
    let (score, interfaces) = all.ok_or_else(|| "no L2Advertisement's nodeSelectors select it".to_owned())?;
    // Under policy Local the address follows the pods: to leave a cordoned node before they do would only cut their
    // connections.
    let counts = |flaw: &&Flaw| served.is_none() || **flaw != Flaw::Cordoned;
    Ok(Fitness { flaw: node.flaws.iter().rfind(counts).copied(), score, interfaces })
}
