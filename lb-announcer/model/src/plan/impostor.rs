//! Hosts that answer for every address they are asked for, as access points with proxy ARP do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use landfall_model::ObjectKey;
use pnet_base::MacAddr;

use crate::address::{Family, Span};
use crate::blocked::Blocked;
use crate::plan::{Inputs, TakenBy};
use crate::pool::{Pool, is_buggy};

/// For each pool and family of which everything that is left seems taken by one host: that host.
///
/// Its answers say nothing about which addresses are free. It has to answer for more than one address, and for at
/// least as many as Services have without a word from it: a host with a few addresses of its own is none of these.
pub(super) fn impostors(inputs: &Inputs<'_>) -> BTreeMap<(ObjectKey, Family), MacAddr> {
    let foreign = inputs.taken.values().filter(|by| matches!(by, TakenBy::ForeignHost(_)));
    if foreign.count() < 2 {
        return BTreeMap::new();
    }
    let held: BTreeSet<IpAddr> = inputs.held.values().flatten().copied().collect();
    let mut blocked = Blocked::default();
    inputs.taken.keys().chain(&held).for_each(|ip| blocked.insert(*ip));
    let families = [Family::V4, Family::V6];
    let all = inputs.pools.iter().flat_map(|pool| families.map(|family| (pool, family)));
    let found = all.filter_map(|(pool, family)| {
        let mac = of_pool(inputs, &held, &mut blocked, pool, family)?;
        Some(((pool.key.clone(), family), mac))
    });
    found.collect()
}

fn of_pool(
    inputs: &Inputs<'_>,
    held: &BTreeSet<IpAddr>,
    blocked: &mut Blocked,
    pool: &Pool,
    family: Family,
) -> Option<MacAddr> {
    let range = |span: &Span| family.address(span.first())..=family.address(span.last());
    let spans = || pool.spans.iter().filter(|s| s.family() == family);
    let (mut macs, mut claimed) = (BTreeSet::new(), BTreeSet::new());
    for (ip, by) in spans().flat_map(|span| inputs.taken.range(range(span))) {
        if let TakenBy::ForeignHost(mac) = by {
            macs.insert(*mac);
            claimed.insert(*ip);
        }
    }
    let mac = macs.pop_first().filter(|_| macs.is_empty() && claimed.len() >= 2)?;
    let quiet = spans().flat_map(|span| held.range(range(span))).filter(|ip| !claimed.contains(ip)).count();
    let free = spans().any(|span| has_free(blocked, pool, *span));
    (!free && claimed.len() >= quiet).then_some(mac)
}

fn has_free(blocked: &mut Blocked, pool: &Pool, span: Span) -> bool {
    while let Some(next) = blocked.next_free(span, span.first()) {
        let ip = span.family().address(next);
        if !(pool.avoid_buggy && is_buggy(ip)) {
            return true;
        }
        blocked.insert(ip);
    }
    false
}
