//! One address on one node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_model::ObjectKey;
use pnet_base::MacAddr;

use crate::announcer::{Cause, FrameCounters, Moment};
use crate::duty::{Candidate, Duty};

/// Gratuitous ARP: often at first, since frames get lost and caches lock, then ever more rarely.
const ARP_BURST_MS: [u64; 9] = [0, 50, 150, 350, 750, 1_750, 3_750, 10_000, 30_000];
/// Unsolicited advertisements: three, a second apart (RFC 4861 section 7.2.6), and two more for who missed them.
const NDP_BURST_MS: [u64; 5] = [0, 1_000, 2_000, 10_000, 30_000];
/// Switches and hosts that forget are reminded at this rate; the least ageing time in use is 300 s.
const REFRESH: Duration = Duration::from_secs(90);

/// What this node is to the address.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Nothing, at least until then.
    Idle { until: Moment },
    /// It asks whether anybody has it.
    Probing(Probing),
    /// It answers for it.
    Owner(Owner),
}

#[derive(Debug)]
pub(crate) struct Probing {
    pub(crate) cause: Cause,
    /// The silent owner whose address it is.
    pub(crate) from: Option<Arc<str>>,
    pub(crate) sent: u8,
    pub(crate) next: Moment,
    /// Not to be taken before.
    pub(crate) earliest: Moment,
}

#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) epoch: u64,
    /// When the burst began, and how many of its steps are done.
    pub(crate) since: Moment,
    pub(crate) step: usize,
    pub(crate) next: Moment,
    pub(crate) offer: Option<Offer>,
    /// Who leads the neighbours here, so that this node doesn't announce itself yet.
    pub(crate) led_by: Option<Arc<str>>,
    /// Before then no offer is made again.
    pub(crate) no_offer_before: Moment,
    /// Whether another of ours claims it too.
    pub(crate) contested: bool,
    /// When it was last defended against a foreign host.
    pub(crate) defended: Option<Moment>,
    /// When a peer that isn't heard was last shown that this node has it.
    pub(crate) corrected: Option<Moment>,
    /// When it is next asked whether somebody else answers for it: such a host may never say so unasked.
    pub(crate) check: Moment,
}

#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) to: Arc<str>,
    pub(crate) expires: Moment,
}

#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) candidates: Vec<Candidate>,
    /// The Services that have it.
    pub(crate) services: Vec<ObjectKey>,
    /// Those that became candidates after the address was known, and when. Forgotten when they are no news any more.
    pub(crate) joined: Vec<(Arc<str>, Moment)>,
    pub(crate) standing: Standing,
    /// Since when nobody is known to announce it.
    pub(crate) silent: Option<Moment>,
    /// A node that answers for it and doesn't claim it, its MAC address, and when it last did.
    pub(crate) squatter: Option<(Arc<str>, MacAddr, Moment)>,
    /// When a client last asked for it while this node didn't have it.
    pub(crate) asked: Option<Moment>,
    /// Whether any node of ours has been seen to announce it: from then on it is kept, whoever else claims it.
    pub(crate) announced: bool,
    /// The peer that has it, as the network itself showed: it isn't heard.
    pub(crate) holder: Option<Arc<str>>,
    pub(crate) counters: FrameCounters,
}

impl Address {
    pub(crate) fn new(duty: &Duty) -> Self {
        let (candidates, services) = (duty.candidates.clone(), duty.services.clone());
        let standing = Standing::Idle { until: Moment::ZERO };
        let counters = FrameCounters::default();
        Self {
            candidates,
            services,
            joined: Vec::new(),
            standing,
            silent: None,
            squatter: None,
            asked: None,
            announced: false,
            holder: None,
            counters,
        }
    }

    pub(crate) fn set_duty(&mut self, now: Moment, duty: &Duty) {
        let candidates = &duty.candidates;
        let before = std::mem::replace(&mut self.candidates, candidates.clone());
        self.services.clone_from(&duty.services);
        self.joined.retain(|(node, _)| candidates.iter().any(|c| c.node == *node));
        let fresh = candidates.iter().filter(|c| !before.iter().any(|b| b.node == c.node));
        self.joined.extend(fresh.map(|c| (c.node.clone(), now)));
    }

    pub(crate) fn candidate(&self, node: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|c| &*c.node == node)
    }

    /// For how long the node has been a candidate, as far as this node knows.
    pub(crate) fn candidate_for(&self, node: &str, now: Moment) -> Duration {
        let joined = self.joined.iter().find(|(name, _)| **name == *node);
        joined.map_or(Duration::MAX, |(_, since)| now.saturating_sub(*since))
    }

    /// Whether it follows its pods, so that an owner that is fit keeps it: no candidate is better than another.
    pub(crate) fn follows_pods(&self) -> bool {
        self.candidates.len() > 1 && self.candidates.windows(2).any(|pair| pair[0].level == pair[1].level)
    }

    /// The candidates that come before `node` and are no better than it.
    pub(crate) fn equals_before(&self, node: &str) -> impl Iterator<Item = &Candidate> {
        let level = self.candidate(node).map(|c| c.level);
        let before = self.candidates.iter().take_while(move |c| level.is_some() && &*c.node != node);
        before.filter(move |c| Some(c.level) == level)
    }

    /// Begins to ask; not taken before `earliest`.
    pub(crate) fn probe(&mut self, now: Moment, cause: Cause, earliest: Moment) {
        self.standing = Standing::Probing(Probing { cause, from: None, sent: 0, next: now, earliest });
    }

    /// Begins the burst, or begins it again, at that time.
    pub(crate) fn announce_from(&mut self, first: Moment) {
        if let Standing::Owner(owner) = &mut self.standing {
            owner.since = first;
            owner.step = 0;
            owner.next = first;
        }
    }
}

impl Owner {
    pub(crate) fn new(epoch: u64, now: Moment) -> Self {
        Self {
            epoch,
            since: now,
            step: 0,
            next: now,
            offer: None,
            led_by: None,
            no_offer_before: Moment::ZERO,
            contested: false,
            defended: None,
            corrected: None,
            check: now + Duration::from_secs(1),
        }
    }

    /// Whether to announce now; moves the schedule on.
    pub(crate) fn announces(&mut self, ip: IpAddr, now: Moment) -> bool {
        if now < self.next {
            return false;
        }
        let burst: &[u64] = if ip.is_ipv4() { &ARP_BURST_MS } else { &NDP_BURST_MS };
        self.step += 1;
        self.next = match burst.get(self.step) {
            Some(ms) => self.since + Duration::from_millis(*ms),
            None => now + REFRESH + jitter(ip, self.step),
        };
        true
    }
}

/// Up to ten seconds, so that addresses taken together aren't refreshed together for ever.
fn jitter(ip: IpAddr, step: usize) -> Duration {
    let number = crate::address::number(ip) % u128::from(u32::MAX) + step as u128;
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Duration::from_millis(u64::try_from(mixed % 10_000).unwrap_or(0))
}
