//! Who is behind a MAC address: a peer, a device that answers for everybody, or a host that isn't ours.
//!
//! Heartbeats tell a peer's MAC addresses, but they may be blocked. So each node is also asked for its own addresses
//! by ARP and NDP, and the API server tells what the speakers have published. Nothing is called a foreign host before
//! every node has been asked, and the MAC addresses of nodes that have left are remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::announcer::peer::Peer;
use crate::announcer::{Announcer, Effect, Liveness, Moment, Report};

/// How often every node is asked, and how often one whose MAC address isn't known.
const ASK_ALL: Duration = Duration::from_mins(1);
const ASK_UNKNOWN: Duration = Duration::from_secs(3);
/// Between the questions of one round, of which there are three.
const ASK_AGAIN: Duration = Duration::from_millis(80);
const QUESTIONS: u8 = 3;
/// How often is looked who isn't heard.
const LOOK: Duration = Duration::from_millis(500);
/// Heartbeats that a peer hasn't got though it is heard: ten seconds of them.
const MOST_LAG: u64 = 200;
/// An answer of so long ago says nothing any more.
const ANSWER_HOLDS: Duration = Duration::from_mins(10);
/// Whoever claims to be a node, or claims addresses, is remembered up to this number: a stranger decides how many come.
const MOST: usize = 256;
/// As many devices that answer for everybody are named.
const MOST_PROXIES: usize = 8;

/// What is known of a node from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerFacts {
    /// The node's own addresses.
    pub addresses: Vec<IpAddr>,
    /// MAC addresses that its speaker has published.
    pub macs: BTreeSet<MacAddr>,
    /// Whether its speaker runs.
    pub presence: Presence,
}

/// Whether a node's speaker runs, as the API server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Presence {
    /// It is Ready.
    Ready,
    /// It isn't.
    Absent,
    /// There is no API server to say so.
    #[default]
    Unknown,
}

/// Who has a MAC address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// A node of ours, also one that has left.
    Peer(Arc<str>),
    /// A device that answers for other hosts' addresses too: its answer says nothing.
    Proxy,
    /// Nobody that is known.
    Stranger,
}

/// What was seen of the hosts on the network.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Whose each node's address is, this node's own included.
    nodes: BTreeMap<IpAddr, Arc<str>>,
    /// For which nodes' addresses a MAC address answered, and when it last did.
    answers: BTreeMap<MacAddr, BTreeMap<IpAddr, Moment>>,
    /// Claims of hosts that aren't known yet, and when the first was.
    suspicions: BTreeMap<(IpAddr, MacAddr), Moment>,
    /// Hosts that turned out to be no node's, and when.
    strangers: BTreeMap<MacAddr, Moment>,
    /// Devices that answer for everybody and were reported.
    proxies: BTreeSet<MacAddr>,
    /// Questions still to be asked in this round, whether every node is asked, and when.
    left: u8,
    all: bool,
    next: Moment,
    /// When everybody was last asked.
    asked_all: Option<Moment>,
    /// Peers that ought to be heard and aren't, and when that is looked at next.
    unheard: BTreeMap<Arc<str>, Unheard>,
    look: Moment,
}

impl Neighbours {
    fn names(&self, mac: MacAddr, now: Moment) -> BTreeSet<&Arc<str>> {
        let fresh = |(_, at): &(&IpAddr, &Moment)| now.saturating_sub(**at) < ANSWER_HOLDS;
        let ips = self.answers.get(&mac).into_iter().flatten().filter(fresh);
        ips.filter_map(|(ip, _)| self.nodes.get(ip)).collect()
    }

    /// When `node` last answered for an address of its own.
    fn answered(&self, node: &str) -> Option<Moment> {
        let own = |(ip, _): &(&IpAddr, &Moment)| self.nodes.get(*ip).is_some_and(|name| &**name == node);
        self.answers.values().flat_map(|ips| ips.iter().filter(own)).map(|(_, at)| *at).max()
    }

    /// Begins a round of questions, to every node or to those whose MAC address isn't known.
    pub(super) fn ask(&mut self, now: Moment, all: bool) {
        if self.left == 0 {
            (self.left, self.next) = (QUESTIONS, now);
        }
        self.all |= all;
    }

    pub(super) fn deadline(&self, verify: Duration) -> Moment {
        let suspicion = self.suspicions.values().min().map_or(Moment::MAX, |at| *at + verify);
        suspicion.min(if self.left > 0 { self.next } else { Moment::MAX })
    }

    /// Whether somebody unknown claims the address at the moment.
    pub(super) fn suspects(&self, ip: IpAddr) -> bool {
        self.suspicions.range((ip, MacAddr::zero())..=(ip, MacAddr::broadcast())).next().is_some()
    }
}

impl Announcer {
    /// Who else takes part, and what is known of them; this node's own entry tells its own addresses.
    pub fn set_peers(&mut self, now: Moment, facts: &BTreeMap<Arc<str>, PeerFacts>) -> Vec<Effect> {
        for name in self.peers.keys().filter(|name| !facts.contains_key(*name)).cloned().collect::<Vec<_>>() {
            let learned = self.learned(&name, now);
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.macs.extend(learned);
                peer.departed.get_or_insert(now);
            }
        }
        let remember = self.tuning.remember;
        self.peers.retain(|_, peer| peer.departed.is_none_or(|at| now < at + remember));
        for (name, facts) in facts {
            if *name == self.me {
                self.macs.extend(&facts.macs);
                continue;
            }
            let peer = self.peers.entry(name.clone()).or_insert_with(|| Peer::new(name));
            peer.departed = None;
            // What was published before is remembered as what was heard is: an interface may be gone for a moment.
            peer.macs.extend(&facts.macs);
            peer.presence = facts.presence;
            peer.expected.get_or_insert(now);
        }
        let nodes = facts.iter().flat_map(|(name, f)| f.addresses.iter().map(|ip| (*ip, name.clone())));
        let nodes: BTreeMap<IpAddr, Arc<str>> = nodes.collect();
        if nodes != self.neighbours.nodes {
            self.neighbours.nodes = nodes;
            let first = self.neighbours.asked_all.is_none();
            self.neighbours.ask(now, first);
        }
        self.forget_conflicts_with_peers(now);
        self.settle(now);
        self.flush()
    }

    /// The MAC addresses that answered for this node's own addresses and for no other node's.
    fn learned(&self, node: &str, now: Moment) -> Vec<MacAddr> {
        let only = |mac: &&MacAddr| {
            let names = self.neighbours.names(**mac, now);
            names.len() == 1 && names.first().is_some_and(|name| &***name == node)
        };
        self.neighbours.answers.keys().filter(only).copied().collect()
    }

    /// Who has the MAC address.
    pub(super) fn who(&self, mac: MacAddr, now: Moment) -> Who {
        if let Some((name, _)) = self.peers.iter().find(|(_, peer)| peer.macs.contains(&mac)) {
            return Who::Peer(name.clone());
        }
        let names = self.neighbours.names(mac, now);
        match names.first() {
            Some(name) if names.len() == 1 && **name != self.me => Who::Peer((*name).clone()),
            // A host that has just one address of ours, this node's own, is no proxy but wrong; it is no witness either.
            Some(_) => Who::Proxy,
            None => Who::Stranger,
        }
    }

    /// A host answers for an address of a node.
    pub(super) fn learn(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) -> bool {
        if !self.neighbours.nodes.contains_key(&ip) {
            return false;
        }
        let known = &mut self.neighbours.answers;
        if known.len() >= MOST && !known.contains_key(&mac) {
            known.retain(|_, ips| ips.values().any(|at| now.saturating_sub(*at) < ANSWER_HOLDS));
            if known.len() >= MOST {
                return true;
            }
        }
        let news = known.entry(mac).or_default().insert(ip, now).is_none();
        if news {
            self.forget_conflicts_with_peers(now);
            let few = self.neighbours.proxies.len() < MOST_PROXIES;
            if few && self.who(mac, now) == Who::Proxy && self.neighbours.proxies.insert(mac) {
                self.revision += 1;
                self.effects.push(Effect::Report(Report::Proxy { mac }));
            }
        }
        true
    }

    /// Asks the nodes for their own addresses where that is due, and judges whoever nobody has spoken for since.
    pub(super) fn attend_neighbours(&mut self, now: Moment) {
        if self.started.is_none() {
            return;
        }
        if self.neighbours.left == 0 && now >= self.neighbours.next {
            let all = self.neighbours.asked_all.is_none_or(|at| now >= at + ASK_ALL);
            self.neighbours.ask(now, all);
        }
        if self.neighbours.left > 0 && now >= self.neighbours.next {
            self.ask_nodes(now);
        }
        if now >= self.neighbours.look {
            self.neighbours.look = now + LOOK;
            let unheard = self.find_unheard(now);
            if unheard != self.neighbours.unheard {
                self.revision += 1;
                self.neighbours.unheard = unheard;
            }
        }
        let verify = self.tuning.verify;
        let due = |at: &Moment| now >= *at + verify;
        let judged: Vec<(IpAddr, MacAddr)> =
            self.neighbours.suspicions.iter().filter(|(_, at)| due(at)).map(|(claim, _)| *claim).collect();
        for (ip, mac) in judged {
            self.neighbours.suspicions.remove(&(ip, mac));
            if self.who(mac, now) == Who::Stranger {
                if self.neighbours.strangers.len() >= MOST {
                    self.neighbours.strangers.clear();
                }
                self.neighbours.strangers.insert(mac, now);
                self.on_foreign_claim(now, ip, mac);
            } else {
                self.on_claim(now, ip, mac);
            }
        }
    }

    fn ask_nodes(&mut self, now: Moment) {
        let neighbours = &mut self.neighbours;
        let all = neighbours.all;
        neighbours.left -= 1;
        neighbours.next = now + ASK_AGAIN;
        if neighbours.left == 0 {
            neighbours.next = now + ASK_UNKNOWN;
            neighbours.all = false;
        }
        if all {
            neighbours.asked_all = Some(now);
        }
        let unheard = |name: &Arc<str>| {
            let fresh = |at: Moment| now.saturating_sub(at) < Duration::from_secs(3);
            !self.heard_lately(name, now) && !self.neighbours.answered(name).is_some_and(fresh)
        };
        let asked = self.neighbours.nodes.iter().filter(|(_, name)| all || **name != self.me && unheard(name));
        let asked: Vec<IpAddr> = asked.map(|(ip, _)| *ip).collect();
        let links: Vec<u32> = self.links.keys().copied().collect();
        // What one interface asks for of what is to be announced the others hear that are on its segment.
        let common = self.addresses.keys().next().filter(|_| all && links.len() > 1).copied();
        for ip in asked.into_iter().chain(common) {
            for link in &links {
                self.probe_on(*link, ip);
            }
        }
    }

    /// Somebody who isn't known claims an address: every node is asked before it is called a foreign host.
    pub(super) fn on_strangers_claim(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        let known = self.neighbours.strangers.get(&mac).is_some_and(|at| now.saturating_sub(*at) < ANSWER_HOLDS);
        let neighbours = &mut self.neighbours;
        // With so many claims at once somebody is at play, and no node.
        if known || self.peers.is_empty() || neighbours.suspicions.len() >= MOST {
            return self.on_foreign_claim(now, ip, mac);
        }
        neighbours.suspicions.entry((ip, mac)).or_insert(now);
        let just_asked = neighbours.asked_all.is_some_and(|at| now < at + Duration::from_secs(1));
        if !just_asked {
            neighbours.ask(now, true);
        }
    }

    /// A packet came that was made with another key, or changed on the way.
    pub(super) fn on_other_key(&mut self, now: Moment, from: IpAddr) {
        let name = self.neighbours.nodes.get(&from);
        if let Some(peer) = name.and_then(|name| self.peers.get_mut(name)) {
            peer.other_key = Some(now);
        }
    }

    /// Devices that answer for the addresses of several nodes.
    pub fn proxies(&self, now: Moment) -> Vec<MacAddr> {
        self.neighbours.proxies.iter().filter(|mac| self.who(**mac, now) == Who::Proxy).copied().collect()
    }

    /// Peers that ought to be heard and aren't, and why.
    pub fn unheard(&self) -> &BTreeMap<Arc<str>, Unheard> {
        &self.neighbours.unheard
    }

    /// Peers that ought to be heard and aren't: heartbeats are blocked on the way, or made with another key.
    ///
    /// A peer counts that something else shows to be there: its node answers for its own addresses, or its speaker
    /// asks for addresses that are announced. One that says nothing at all may have lost its power, which the API
    /// server takes a while to notice.
    fn find_unheard(&self, now: Moment) -> BTreeMap<Arc<str>, Unheard> {
        let lately = |at: Option<Moment>, limit| at.is_some_and(|at| now.saturating_sub(at) < limit);
        let silent = |(name, peer): (&Arc<str>, &Peer)| {
            let limit = self.tuning.unheard_after;
            let since = peer.heard.max(peer.expected)?;
            let silence = now.saturating_sub(since);
            if peer.departed.is_some() || matches!(self.liveness, Liveness::Assumed) {
                return None;
            }
            if silence < limit {
                return (peer.lag > MOST_LAG).then(|| (name.clone(), Unheard::NotReached));
            }
            if lately(peer.other_key, limit) {
                return Some((name.clone(), Unheard::OtherKey));
            }
            if lately(peer.arrived, limit) {
                return Some((name.clone(), Unheard::NotReached));
            }
            let shows = lately(peer.seen, ASK_ALL) && peer.seen > peer.heard;
            let answered = self.neighbours.answered(name).filter(|at| *at > since);
            let answers = lately(answered, limit * 5) || silence > ASK_ALL;
            let there = match peer.presence {
                Presence::Ready => shows || answers,
                // Where nobody says that it ought to run, its node answers for longer than a restart takes.
                Presence::Unknown => shows || answers && silence > limit * 4,
                Presence::Absent => false,
            };
            there.then(|| (name.clone(), Unheard::Blocked))
        };
        self.peers.iter().filter_map(silent).collect()
    }
}

/// Why a peer that is there isn't heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unheard {
    /// No heartbeat of it arrives.
    Blocked,
    /// Its heartbeats arrive, and say that it doesn't get this node's.
    NotReached,
    /// Its heartbeats are made with another key.
    OtherKey,
}

impl Unheard {
    /// The word for it in a speaker's `ConfigurationState`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "Blocked",
            Self::NotReached => "NotReached",
            Self::OtherKey => "OtherKey",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Blocked, Self::NotReached, Self::OtherKey].into_iter().find(|why| why.as_str() == word)
    }
}
