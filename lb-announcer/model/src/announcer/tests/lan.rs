//! The simulated segment: a clock, an event queue, and nodes that run, are stopped or are gone.

mod faults;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use landfall_model::ObjectKey;
use pnet_base::MacAddr;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::advert::Interfaces;
use crate::announcer::{Announcer, Counters, Effect, Link, Liveness, Presence, Report, Tuning};
use crate::duty::{Candidate, Duty};
use crate::election::Rank;
use crate::subnet::Subnet;
use crate::wire::arp::{Arp, Operation};
use crate::wire::heartbeat::Key;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Message {
    Frame(Vec<u8>),
    /// Whose it is, and what it says.
    Packet(usize, Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Run {
    Running,
    Paused,
    Gone,
}

struct Machine {
    core: Announcer,
    run: Run,
    /// What the node's clock is ahead of the simulation's.
    offset: Duration,
    /// When its timer is called next, in the simulation's time.
    timer: Duration,
    inbox: Vec<Message>,
    side: usize,
}

pub(super) struct Lan {
    random: SmallRng,
    now: Duration,
    machines: Vec<Machine>,
    duties: BTreeMap<IpAddr, Duty>,
    queue: BinaryHeap<Reverse<(Duration, u64, usize, Message)>>,
    serial: u64,
    pub(super) loss: f64,
    pub(super) foreign: BTreeMap<IpAddr, MacAddr>,
    /// A device that answers for every address.
    pub(super) proxy: Option<MacAddr>,
    /// Who doesn't get whose heartbeats: sender and receiver.
    blocked: BTreeSet<(usize, usize)>,
    /// Machines without power, whose kernels answer nothing either.
    dark: BTreeSet<usize>,
    /// Machines whose Node objects are gone.
    deleted: BTreeSet<usize>,
    /// Machines that make their heartbeats with another key.
    other_key: BTreeSet<usize>,
    presence: Presence,
    /// Nodes that were called foreign hosts.
    pub(super) accused: Vec<(IpAddr, MacAddr)>,
    pub(super) record: bool,
    pub(super) recorded: Vec<Vec<u8>>,
    overlap_since: BTreeMap<IpAddr, Duration>,
    gap_since: BTreeMap<IpAddr, Duration>,
    pub(super) longest_overlap: Duration,
    pub(super) longest_gap: Duration,
    /// How often the neighbours of an address were led to its new owner.
    pub(super) guided: usize,
    failovers_before: u64,
    failovers_of_the_gone: u64,
}

fn name(index: usize) -> Arc<str> {
    format!("node-{index}").into()
}

/// The node's own address.
fn node_ip(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, u8::try_from(index).unwrap()).into()
}

fn mac(index: usize) -> MacAddr {
    MacAddr(2, 0, 0, 0, 0, u8::try_from(index).unwrap())
}

pub(super) fn link(index: u32, name: &str, mac: MacAddr, networks: &[&str]) -> Link {
    let networks = networks.iter().map(|text| Subnet::parse(text).unwrap()).collect();
    Link { index, name: name.into(), mac, networks, lower: None }
}

impl Lan {
    pub(super) fn new(seed: u64, nodes: usize, addresses: u16) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let ip = |i: u16| IpAddr::from(Ipv4Addr::new(10, 0, (i >> 8) as u8, (i & 255) as u8));
        let duty = |ip: IpAddr| {
            let mut order: Vec<usize> = (0..nodes).collect();
            order.sort_by_key(|i| Rank::new(&name(*i), ip, 0, None));
            let candidate = |(level, i)| Candidate { node: name(i), interfaces: Interfaces::All, level };
            let candidates = order.into_iter().enumerate().map(candidate).collect();
            (ip, Duty { ip, services: vec![ObjectKey::new("shop", ip.to_string())], candidates })
        };
        let duties = (1..=addresses).map(|i| duty(ip(i))).collect();
        let mut lan = Self {
            now: Duration::from_secs(1_000),
            machines: Vec::new(),
            duties,
            queue: BinaryHeap::new(),
            serial: 0,
            loss: 0.0,
            foreign: BTreeMap::new(),
            proxy: None,
            blocked: BTreeSet::new(),
            dark: BTreeSet::new(),
            deleted: BTreeSet::new(),
            other_key: BTreeSet::new(),
            presence: Presence::Unknown,
            accused: Vec::new(),
            record: false,
            recorded: Vec::new(),
            overlap_since: BTreeMap::new(),
            gap_since: BTreeMap::new(),
            longest_overlap: Duration::ZERO,
            longest_gap: Duration::ZERO,
            guided: 0,
            failovers_before: 0,
            failovers_of_the_gone: 0,
            random: SmallRng::seed_from_u64(random.random()),
        };
        for index in 0..nodes {
            let offset = Duration::from_millis(random.random_range(0..10_000_000));
            let core = lan.fresh_core(index);
            lan.machines.push(Machine {
                core,
                run: Run::Gone,
                offset,
                timer: Duration::MAX,
                inbox: Vec::new(),
                side: 0,
            });
        }
        (0..nodes).for_each(|index| lan.start(index));
        lan
    }

    fn fresh_core(&mut self, index: usize) -> Announcer {
        let key = if self.other_key.contains(&index) { [2; 32] } else { [1; 32] };
        let liveness = Liveness::Heartbeats(Key::new(key));
        Announcer::new(&name(index), liveness, self.random.random(), Tuning::default())
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn local(&self, index: usize) -> Duration {
        self.now + self.machines[index].offset
    }

    pub(super) fn node(&self, index: usize) -> &Announcer {
        &self.machines[index].core
    }

    pub(super) fn ips(&self) -> Vec<IpAddr> {
        self.duties.keys().copied().collect()
    }

    pub(super) fn first_choice(&self, ip: IpAddr) -> usize {
        let first = &self.duties[&ip].candidates[0].node;
        (0..self.machines.len()).find(|i| name(*i) == *first).unwrap()
    }

    /// The nodes that would answer a request for `ip` at this moment.
    pub(super) fn owners(&self, ip: IpAddr) -> Vec<usize> {
        let answers = |(index, m): (usize, &Machine)| {
            (m.run == Run::Running && m.core.answers(ip, self.now + m.offset)).then_some(index)
        };
        self.machines.iter().enumerate().filter_map(answers).collect()
    }

    pub(super) fn running(&self) -> usize {
        self.machines.iter().filter(|m| m.run == Run::Running).count()
    }

    fn counters(&self) -> impl Iterator<Item = Counters> {
        self.machines.iter().map(|m| m.core.counters())
    }

    pub(super) fn failovers(&self) -> u64 {
        self.counters().map(|c| c.failovers).sum::<u64>() + self.failovers_of_the_gone - self.failovers_before
    }

    pub(super) fn reset_failovers(&mut self) {
        self.failovers_before += self.failovers();
    }

    pub(super) fn announcements(&self, index: usize) -> u64 {
        self.machines[index].core.frame_counters().map(|(_, c)| c.gratuitous).sum()
    }

    pub(super) fn start(&mut self, index: usize) {
        if self.machines[index].run != Run::Gone {
            return;
        }
        self.failovers_of_the_gone += self.machines[index].core.counters().failovers;
        self.machines[index].core = self.fresh_core(index);
        self.machines[index].run = Run::Running;
        self.machines[index].inbox.clear();
        self.dark.remove(&index);
        let now = self.local(index);
        let peers = self.peer_facts();
        let duties = self.duties();
        let core = &mut self.machines[index].core;
        let mut effects = core.set_links(now, vec![link(1, "eth0", mac(index), &[])]);
        effects.extend(core.set_peers(now, &peers));
        effects.extend(core.set_duties(now, &duties));
        self.carry_out(index, effects);
        self.machines[index].timer = self.now;
    }

    /// Lets one node believe that `first` is the first choice for everything.
    pub(super) fn prefer(&mut self, index: usize, first: usize) {
        let mut duties = self.duties.clone();
        for duty in duties.values_mut() {
            duty.candidates.sort_by_key(|c| c.node != name(first));
            duty.candidates.iter_mut().enumerate().for_each(|(level, candidate)| candidate.level = level);
        }
        let now = self.local(index);
        let effects = self.machines[index].core.set_duties(now, &duties);
        self.carry_out(index, effects);
        self.machines[index].timer = self.now;
    }

    /// Gives the addresses of each pair to one Service, as of a Service with two families: both have one order.
    pub(super) fn pair_up(&mut self) {
        let mut first = None;
        for duty in self.duties.values_mut() {
            match first.take() {
                Some((services, candidates)) => (duty.services, duty.candidates) = (services, candidates),
                None => first = Some((duty.services.clone(), duty.candidates.clone())),
            }
        }
    }

    /// Takes a node out of the candidates for everything.
    pub(super) fn prefer_all_but(&mut self, index: usize) {
        for duty in self.duties.values_mut() {
            duty.candidates.retain(|c| c.node != name(index));
        }
        for index in 0..self.machines.len() {
            let now = self.local(index);
            let effects = self.machines[index].core.set_duties(now, &self.duties);
            self.carry_out(index, effects);
        }
    }

    /// Lets all nodes know that each address follows its pods: all candidates are as good as each other.
    pub(super) fn level(&mut self) {
        let candidates = self.duties.values_mut().flat_map(|duty| &mut duty.candidates);
        candidates.for_each(|candidate| candidate.level = 0);
        for index in 0..self.machines.len() {
            let now = self.local(index);
            let effects = self.machines[index].core.set_duties(now, &self.duties);
            self.carry_out(index, effects);
        }
    }

    pub(super) fn start_all(&mut self) {
        (0..self.machines.len()).for_each(|index| self.start(index));
    }

    pub(super) fn crash(&mut self, index: usize) {
        self.machines[index].run = Run::Gone;
    }

    pub(super) fn pause(&mut self, index: usize) {
        if self.machines[index].run == Run::Running {
            self.machines[index].run = Run::Paused;
        }
    }

    pub(super) fn resume(&mut self, index: usize) {
        if self.machines[index].run != Run::Paused {
            return;
        }
        self.machines[index].run = Run::Running;
        // As in a real process, requests that waited in the socket are seen before the timer.
        for message in std::mem::take(&mut self.machines[index].inbox) {
            self.deliver(index, &message);
        }
        self.machines[index].timer = self.now;
    }

    /// The machine was suspended for a moment too short to matter, but its clock says otherwise.
    pub(super) fn jump_clock(&mut self, index: usize, by: Duration) {
        self.machines[index].offset += by;
        self.machines[index].timer = self.now;
    }

    pub(super) fn drain(&mut self, index: usize) {
        if self.machines[index].run == Run::Running {
            let now = self.local(index);
            let effects = self.machines[index].core.drain(now);
            self.carry_out(index, effects);
            self.set_timer(index);
        }
    }

    pub(super) fn leave(&mut self, index: usize) {
        if self.machines[index].run == Run::Running {
            let now = self.local(index);
            let effects = self.machines[index].core.goodbye(now);
            self.carry_out(index, effects);
            self.crash(index);
        }
    }

    pub(super) fn partition(&mut self, side: &[usize]) {
        for index in side {
            self.machines[*index].side = 1;
        }
    }

    pub(super) fn heal(&mut self) {
        self.machines.iter_mut().for_each(|m| m.side = 0);
    }

    pub(super) fn look_ahead(&mut self, ips: &BTreeSet<IpAddr>) {
        for index in 0..self.machines.len() {
            let now = self.local(index);
            let effects = self.machines[index].core.set_look_ahead(now, ips);
            self.carry_out(index, effects);
        }
    }

    pub(super) fn set_table(&mut self, index: usize, table: Vec<u8>) {
        let now = self.local(index);
        let effects = self.machines[index].core.set_table(now, table);
        self.carry_out(index, effects);
    }

    pub(super) fn inject(&mut self, index: usize, packet: &[u8]) {
        let now = self.local(index);
        let effects = self.machines[index].core.on_heartbeat(now, node_ip(1 - index.min(1)), packet);
        self.carry_out(index, effects);
    }

    pub(super) fn ask(&mut self, index: usize, link: u32, request: Arp) -> Vec<Effect> {
        let now = self.local(index);
        self.machines[index].core.on_frame(now, link, &request.encode())
    }

    pub(super) fn broadcast(&mut self, frame: &[u8]) {
        for index in 0..self.machines.len() {
            self.send(index, Message::Frame(frame.to_vec()));
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    pub(super) fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + time;
        while !done(self) {
            let timers = self.machines.iter().enumerate().filter(|(_, m)| m.run == Run::Running);
            let (timer, index) = timers.map(|(i, m)| (m.timer, i)).min().unwrap_or((Duration::MAX, 0));
            let arrival = self.queue.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
            let next = timer.min(arrival);
            if next > end {
                self.now = end;
                break;
            }
            self.now = self.now.max(next);
            if arrival <= timer {
                if let Some(Reverse((_, _, to, message))) = self.queue.pop() {
                    match self.machines[to].run {
                        Run::Running => self.deliver(to, &message),
                        Run::Paused => self.machines[to].inbox.push(message),
                        Run::Gone => {}
                    }
                }
            } else {
                let now = self.local(index);
                let effects = self.machines[index].core.on_timer(now);
                self.carry_out(index, effects);
                self.set_timer(index);
            }
            self.check_invariants();
        }
    }

    fn set_timer(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        // A real timer is late by a little.
        let late = Duration::from_micros(self.random.random_range(0..1_500));
        machine.timer = machine.core.deadline().saturating_sub(machine.offset).max(self.now) + late;
    }

    fn deliver(&mut self, to: usize, message: &Message) {
        let now = self.local(to);
        let core = &mut self.machines[to].core;
        let effects = match message {
            Message::Frame(bytes) => core.on_frame(now, 1, bytes),
            Message::Packet(from, bytes) => core.on_heartbeat(now, node_ip(*from), bytes),
        };
        self.carry_out(to, effects);
        let machine = &mut self.machines[to];
        machine.timer = machine.timer.min(machine.core.deadline().saturating_sub(machine.offset));
    }

    fn carry_out(&mut self, from: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Frame { bytes, .. } => self.send_frame(from, &bytes),
                Effect::Guide { frames, .. } => {
                    self.guided += 1;
                    for (_, bytes) in frames {
                        self.send_frame(from, &bytes);
                    }
                }
                Effect::Packet { to, bytes } => {
                    let to = (0..self.machines.len()).find(|i| name(*i) == to).unwrap();
                    if self.record && from == 0 {
                        self.recorded.push(bytes.clone());
                    }
                    let open = !self.blocked.contains(&(from, to));
                    if open && self.machines[to].side == self.machines[from].side {
                        self.send(to, Message::Packet(from, bytes));
                    }
                }
                Effect::Report(Report::Conflict { ip, mac, .. }) => self.note_accusation(ip, mac),
                Effect::Report(_) => {}
            }
        }
    }

    fn send_frame(&mut self, from: usize, bytes: &[u8]) {
        self.answer_as_foreign(from, bytes);
        for to in 0..self.machines.len() {
            if to != from && self.machines[to].side == self.machines[from].side {
                self.send(to, Message::Frame(bytes.to_vec()));
            }
        }
    }

    fn answer_as_foreign(&mut self, from: usize, frame: &[u8]) {
        let Some(request) = Arp::decode(frame).filter(|a| a.operation == Operation::Request) else { return };
        let kernel = self.kernel_of(from, request.target_ip.into());
        let foreign = self.foreign.get(&request.target_ip.into()).copied();
        for mac in [kernel, foreign, self.proxy].into_iter().flatten() {
            let answer = request.answer(mac).encode();
            self.send(from, Message::Frame(answer));
        }
    }

    fn send(&mut self, to: usize, message: Message) {
        if self.loss > 0.0 && self.random.random_bool(self.loss) {
            return;
        }
        // Wide enough that packets overtake each other.
        let delay = Duration::from_micros(self.random.random_range(50..3_000));
        self.serial += 1;
        self.queue.push(Reverse((self.now + delay, self.serial, to, message)));
    }

    /// Measures for how long an address has had two owners or none.
    fn check_invariants(&mut self) {
        let split = self.machines.iter().any(|m| m.side != self.machines[0].side);
        for ip in self.ips() {
            let owners = self.owners(ip).len();
            if owners > 1 && !split {
                let since = *self.overlap_since.entry(ip).or_insert(self.now);
                self.longest_overlap = self.longest_overlap.max(self.now.saturating_sub(since));
            } else {
                self.overlap_since.remove(&ip);
            }
            if owners == 0 && self.running() > 0 {
                let since = *self.gap_since.entry(ip).or_insert(self.now);
                let established = since > Duration::from_secs(1_001);
                if established {
                    self.longest_gap = self.longest_gap.max(self.now.saturating_sub(since));
                }
            } else {
                self.gap_since.remove(&ip);
            }
        }
    }
}
