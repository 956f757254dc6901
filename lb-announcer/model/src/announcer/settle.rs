//! The decisions: who is to have each address now, and what this node does about it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::announcer::address::{Address, Offer, Owner, Standing};
use crate::announcer::peer::{Life, Peer};
use crate::announcer::{Announcer, Cause, Effect, Liveness, Moment, Report};
use crate::duty::Candidate;
use crate::wire::heartbeat::Phase;
use crate::wire::state::Claim;

impl Announcer {
    /// Brings every address to where it belongs at this moment.
    pub(super) fn settle(&mut self, now: Moment) {
        self.notice_lateness(now);
        self.report_peers(now);
        let interval = self.check_interval();
        let news = self.tuning.spread_after;
        self.plan_relief(now);
        // Taken out as a whole, which costs nothing, since each address is settled with the rest of the state.
        let mut addresses = std::mem::take(&mut self.addresses);
        for (ip, address) in &mut addresses {
            address.joined.retain(|(_, since)| now < *since + news);
            self.settle_address(now, *ip, address, interval);
        }
        self.addresses = addresses;
        self.attend_neighbours(now);
        self.look(now);
        self.forget_contests(now);
        self.forget_segments(now);
        self.note_silence(now);
        self.publish_state(now);
        self.deadline = self.next_deadline(now);
    }

    fn next_deadline(&self, now: Moment) -> Moment {
        let mut next = self.neighbours.deadline(self.tuning.verify).min(self.beat + self.tuning.heartbeat);
        for address in self.addresses.values() {
            next = next.min(match &address.standing {
                Standing::Idle { until } if *until > now => *until,
                Standing::Idle { .. } => continue,
                Standing::Probing(probing) => probing.next,
                Standing::Owner(owner) => owner.next,
            });
        }
        for peer in self.peers.values() {
            let Some(silence) = peer.silence(now) else { continue };
            for limit in [self.tuning.suspect_after + self.slack, self.tuning.dead_after + self.slack] {
                if let Some(left) = limit.checked_sub(silence).filter(|left| !left.is_zero()) {
                    next = next.min(now + left);
                }
            }
        }
        // A deadline in the past would be one that nothing was done about.
        next.max(now + Duration::from_millis(1))
    }

    fn report_peers(&mut self, now: Moment) {
        for (name, peer) in &mut self.peers {
            let up = peer.life(now, &self.tuning, self.slack) != Life::Dead;
            if up != peer.reported_up {
                self.revision += 1;
                peer.reported_up = up;
                peer.up_since = if up { peer.up_since.or(Some(now)) } else { None };
                let report = if up { Report::PeerUp(name.clone()) } else { Report::PeerDown(name.clone()) };
                self.effects.push(Effect::Report(report));
            }
        }
    }

    pub(super) fn life(&self, node: &str, now: Moment) -> Life {
        match &self.liveness {
            Liveness::Assumed => Life::Alive,
            Liveness::Heartbeats(_) => {
                self.peers.get(node).map_or(Life::Dead, |p| p.life(now, &self.tuning, self.slack))
            }
        }
    }

    /// Whether the node could announce now.
    pub(super) fn able(&self, candidate: &Candidate, now: Moment) -> bool {
        if candidate.node == self.me {
            let link = self.links.values().any(|l| candidate.interfaces.allow(&l.name));
            return self.phase.takes() && link;
        }
        if matches!(self.liveness, Liveness::Assumed) {
            return true;
        }
        let Some(peer) = self.peers.get(&candidate.node) else { return false };
        self.life(&candidate.node, now) == Life::Alive
            && peer.phase.takes()
            && peer.state.interfaces.iter().any(|(name, _)| candidate.interfaces.allow(name))
    }

    /// The strongest claim of a peer that isn't dead.
    pub(super) fn claim_of_peer(&self, ip: IpAddr, now: Moment) -> Option<(Arc<str>, Claim)> {
        let claims = self.peers.iter().filter(|(name, _)| self.life(name, now) != Life::Dead);
        claims
            .filter_map(|(name, peer)| Some((name.clone(), *peer.state.claims.get(&ip)?)))
            .max_by_key(|(_, claim)| claim.epoch)
    }

    fn settle_address(&mut self, now: Moment, ip: IpAddr, address: &mut Address, interval: Duration) {
        let claim = self.claim_of_peer(ip, now);
        if let Some((_, claim)) = &claim {
            address.announced = true;
            let known = self.epochs.entry(ip).or_default();
            *known = (*known).max(claim.epoch);
        }
        match &mut address.standing {
            Standing::Idle { until } if now < *until => {}
            Standing::Idle { .. } => self.settle_idle(now, ip, address, claim.as_ref()),
            Standing::Probing(_) => self.settle_probing(now, ip, address, claim.as_ref()),
            Standing::Owner(_) => self.settle_owner(now, ip, address, claim.as_ref()),
        }
        Self::note_announced(now, address, claim.is_some());
        if let Standing::Owner(owner) = &mut address.standing
            && owner.announces(ip, now)
        {
            self.announce(ip, address);
        }
        if let Standing::Owner(owner) = &mut address.standing
            && now >= owner.check
        {
            owner.check = now + interval;
            self.send_probe(ip, address);
        }
    }

    /// How often an owner asks for its own address: every ten seconds, and never more than 33 times a second in all.
    fn check_interval(&self) -> Duration {
        let addresses = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        Duration::from_secs(10).max(Duration::from_millis(30) * addresses)
    }

    /// A foreign host that has not answered three times in a row has gone.
    fn forget_contests(&mut self, now: Moment) {
        let limit = self.check_interval() * 3 + self.tuning.heartbeat;
        let addresses = &self.addresses;
        let mut over = Vec::new();
        self.contested.retain(|ip, (_, seen)| {
            let owned = addresses.get(ip).is_some_and(|a| matches!(a.standing, Standing::Owner(_)));
            let stays = owned && now < *seen + limit;
            if !stays {
                over.push(*ip);
            }
            stays
        });
        self.state_stale |= !over.is_empty();
        self.effects.extend(over.into_iter().map(|ip| Effect::Report(Report::ConflictOver { ip })));
    }

    /// Who should have the address if the silent owner `without` were gone: who has just come comes last.
    pub(super) fn heir<'a>(&self, address: &'a Address, without: Option<&str>, now: Moment) -> Option<&'a Candidate> {
        let able = address.candidates.iter().filter(|c| Some(&*c.node) != without && self.able(c, now));
        able.min_by_key(|c| !self.settled_in(address, &c.node, now))
    }

    /// Whether the node has been up, and a candidate for the address, for the hold-down: what takes its traffic there,
    /// kube-proxy and the pods, is slower than a heartbeat.
    fn settled_in(&self, address: &Address, node: &Arc<str>, now: Moment) -> bool {
        if matches!(self.liveness, Liveness::Assumed) {
            return true;
        }
        // Each says of itself how long it has been up: to one that has just come up, all seem to have come with it.
        let phase = if *node == self.me { Some(self.phase) } else { self.peers.get(node).map(|p| p.phase) };
        phase == Some(Phase::Ready) && address.candidate_for(node, now) >= self.tuning.hold_down
    }

    fn i_am_heir(&self, address: &Address, without: Option<&str>, now: Moment) -> bool {
        self.heir(address, without, now).is_some_and(|c| c.node == self.me)
    }

    fn settle_idle(&mut self, now: Moment, ip: IpAddr, address: &mut Address, claim: Option<&(Arc<str>, Claim)>) {
        if self.conflicts.contains_key(&ip) {
            // A peer that announces it has asked since, and was not answered: from then on it is the peer's to know.
            let theirs = claim.is_some_and(|(owner, _)| self.life(owner, now) == Life::Alive);
            if !theirs {
                return;
            }
            self.forget_conflict(ip);
        }
        // Whoever claims it may yet turn out to be a node's: that is known in a moment.
        if claim.is_none() && !address.announced && self.neighbours.suspects(ip) {
            return;
        }
        match claim {
            Some((former, claim)) if claim.offered_to == self.my_hash => {
                if address.candidate(&self.me).is_some_and(|c| self.able(c, now)) {
                    self.take(now, ip, address, Cause::Handover, None);
                    // Whoever hands an address over leads its neighbours here when that suits their connections.
                    address.announce_from(now + self.tuning.guide);
                    if let Standing::Owner(taken) = &mut address.standing {
                        // The other may know of a change that this node will only hear of, as of a cordon lifted.
                        taken.no_offer_before = now + self.tuning.offer;
                        taken.led_by = Some(former.clone());
                    }
                }
            }
            Some((owner, _)) if self.life(owner, now) == Life::Suspect => {
                if self.i_am_heir(address, Some(owner), now) {
                    address.probe(now, Cause::Failover, now);
                    if let Standing::Probing(probing) = &mut address.standing {
                        probing.from = Some(owner.clone());
                    }
                    self.settle_probing(now, ip, address, claim);
                }
            }
            Some(_) => {}
            None => {
                if self.i_am_heir(address, None, now) && !self.awaits_peers(address, now) {
                    if self.was_left(now, ip) {
                        self.take(now, ip, address, Cause::Handover, None);
                    } else {
                        address.probe(now, Cause::Free, now);
                        self.settle_probing(now, ip, address, claim);
                    }
                }
            }
        }
    }

    /// Whether a peer that had the address has just said goodbye, so that it is known to be nobody else's.
    fn was_left(&self, now: Moment, ip: IpAddr) -> bool {
        let just = |peer: &Peer| peer.silence(now).is_some_and(|silence| silence < self.tuning.offer);
        self.peers.values().any(|p| p.phase == Phase::Gone && just(p) && p.state.claims.contains_key(&ip))
    }

    fn settle_probing(&mut self, now: Moment, ip: IpAddr, address: &mut Address, claim: Option<&(Arc<str>, Claim)>) {
        let Standing::Probing(probing) = &address.standing else { return };
        let suspect = probing.from.clone();
        let other = claim.filter(|(owner, claim)| {
            let offered = claim.offered_to == self.my_hash;
            let silent = suspect.as_ref() == Some(owner) && self.life(owner, now) != Life::Alive;
            !offered && !silent
        });
        let mine = self.i_am_heir(address, suspect.as_deref(), now);
        let resumes = probing.cause == Cause::Resumed && address.candidate(&self.me).is_some();
        let in_doubt = !address.announced && self.neighbours.suspects(ip);
        if other.is_some() || in_doubt || !(mine || resumes) {
            address.standing = Standing::Idle { until: now };
            return;
        }
        let blind = self.is_blind(now);
        let Standing::Probing(probing) = &mut address.standing else { return };
        if now < probing.next {
            return;
        }
        let (probes, interval) = if probing.from.is_none() && blind {
            (self.tuning.blind_probes, self.tuning.blind_interval)
        } else {
            (self.tuning.probes, self.tuning.probe_interval)
        };
        if probing.sent < probes {
            probing.sent += 1;
            probing.next = now + interval;
            self.send_probe(ip, address);
            return;
        }
        let (cause, earliest) = (probing.cause, probing.earliest);
        let dead = suspect.as_ref().is_none_or(|name| self.life(name, now) == Life::Dead);
        if now < earliest || !dead {
            // Looked at again when the silence is long enough; nothing more is sent.
            let limit = self.tuning.dead_after + self.slack;
            let left = |peer: &Peer| limit.saturating_sub(peer.silence(now).unwrap_or_default());
            let wait = suspect.and_then(|name| self.peers.get(&name)).map_or(Duration::ZERO, left);
            probing.next = now + wait.clamp(Duration::from_millis(1), Duration::from_millis(5));
            return;
        }
        let silence = suspect.and_then(|name| self.peers.get(&name)?.silence(now));
        self.take(now, ip, address, cause, silence);
    }

    fn take(&mut self, now: Moment, ip: IpAddr, address: &mut Address, cause: Cause, silence: Option<Duration>) {
        let known = self.epochs.entry(ip).or_default();
        *known += 1;
        let epoch = *known;
        address.standing = Standing::Owner(Owner::new(epoch, now));
        (address.announced, address.holder) = (true, None);
        self.counters.failovers += u64::from(cause == Cause::Failover);
        self.state_stale = true;
        self.effects.push(Effect::Report(Report::Took { ip, epoch, cause, silence }));
    }

    fn settle_owner(&mut self, now: Moment, ip: IpAddr, address: &mut Address, claim: Option<&(Arc<str>, Claim)>) {
        if let Standing::Owner(owner) = &mut address.standing
            && owner.led_by.as_ref().is_some_and(|former| self.life(former, now) != Life::Alive)
        {
            // Whoever would have led the neighbours here has gone, be it after it has done so.
            owner.led_by = None;
            address.announce_from(now);
        }
        let me = self.me.clone();
        let place = |name: &str| address.candidates.iter().position(|c| &*c.node == name).unwrap_or(usize::MAX);
        let (mine, theirs) = (place(&me), claim.map(|(name, _)| (place(name), name.clone())));
        let able = address.candidate(&me).is_some_and(|c| self.able(c, now));
        let has_link = self.links.values().any(|l| address.candidate(&me).is_none_or(|c| c.interfaces.allow(&l.name)));
        let Standing::Owner(owner) = &mut address.standing else { return };
        if let (Some((name, claim)), Some((their_place, _))) = (claim, &theirs) {
            let stronger = (claim.epoch, std::cmp::Reverse(*their_place), std::cmp::Reverse(name))
                > (owner.epoch, std::cmp::Reverse(mine), std::cmp::Reverse(&me));
            if stronger {
                let handed_over = owner.offer.as_ref().is_some_and(|offer| offer.to == *name);
                self.stop(now, ip, address, Some(name.clone()));
                if handed_over {
                    self.guide(ip, address, name);
                }
                return;
            }
            if !std::mem::replace(&mut owner.contested, true) {
                // The other may not hear this node's heartbeats: then a frame is what makes it stop.
                address.announce_from(now);
            }
        } else if std::mem::take(&mut owner.contested) {
            // The loser has stopped: whoever believed it is corrected now.
            address.announce_from(now);
        }
        if !has_link || address.candidates.is_empty() {
            self.stop(now, ip, address, None);
            return;
        }
        let successor = self.successor(address, able, now).or_else(|| self.relief_of(address, now));
        let draining = self.phase == Phase::Draining;
        let Standing::Owner(owner) = &mut address.standing else { return };
        match (&owner.offer, successor) {
            (None, Some(to)) if now >= owner.no_offer_before || !able => {
                owner.offer = Some(Offer { to, expires: now + self.tuning.offer });
                self.state_stale = true;
            }
            (Some(_), None) => {
                owner.offer = None;
                self.state_stale = true;
            }
            (Some(offer), Some(to)) if offer.to != to || now >= offer.expires => {
                // Nobody took it; somebody else, or the same one later, may.
                owner.offer = None;
                owner.no_offer_before = now + self.tuning.hold_down;
                self.state_stale = true;
            }
            // Not a candidate any more, and nobody is there to take over: nobody is to announce it.
            (None, None) if mine == usize::MAX && !draining => {
                self.stop(now, ip, address, None);
                self.let_go(now, ip, address);
            }
            _ => {}
        }
    }

    /// Who is to have the address instead of this node, its owner.
    fn successor(&self, address: &Address, able: bool, now: Moment) -> Option<Arc<str>> {
        if matches!(self.liveness, Liveness::Assumed) {
            return None;
        }
        let stable = |node: &Arc<str>| {
            let since = self.peers.get(node).and_then(|p| p.up_since);
            since.is_some_and(|since| now >= since + self.tuning.hold_down) && self.settled_in(address, node, now)
        };
        let successor = if able {
            let mine = address.candidate(&self.me)?.level;
            let mut better = address.candidates.iter().filter(|c| c.level < mine && self.able(c, now));
            better.find(|c| stable(&c.node))
        } else {
            self.heir(address, Some(&self.me), now)
        };
        successor.map(|c| c.node.clone())
    }

    pub(super) fn stop(&mut self, now: Moment, ip: IpAddr, address: &mut Address, to: Option<Arc<str>>) {
        address.standing = Standing::Idle { until: now };
        self.state_stale = true;
        self.effects.push(Effect::Report(Report::Left { ip, to }));
    }

    /// Stops to answer for an address that stays in the table of addresses.
    pub(super) fn leave(&mut self, ip: IpAddr, to: Option<Arc<str>>) {
        if let Some(address) = self.addresses.get_mut(&ip)
            && matches!(address.standing, Standing::Owner(_))
        {
            address.standing = Standing::Idle { until: Moment::ZERO };
            self.state_stale = true;
            self.effects.push(Effect::Report(Report::Left { ip, to }));
        }
    }
}
