//! Since when each address is where it is, and how its last move went.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use landfall_lb_model::announcer::{Cause, Report};
use landfall_lb_model::moved::Moved;
use serde::Serialize;
use tokio::sync::watch;

use crate::Name;
use crate::wire::View;

/// Addresses that are remembered after nobody announces them; beyond, the oldest go.
const GONE: usize = 1024;

/// The last move of one address, as this node saw it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Move {
    /// Where it is now; `null` while nobody announces it.
    pub(crate) node: Option<Name>,
    /// Since when, from where, why, and how long nobody announced it, as far as this node could tell: the former owner's
    /// silence, or the time between the two.
    #[serde(flatten)]
    pub(crate) moved: Moved,
    #[serde(skip)]
    seen: Instant,
}

/// The last moves of all addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves(Arc<Mutex<BTreeMap<IpAddr, Move>>>);

/// The word for why an address came.
pub(crate) fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Free => "free",
        Cause::Failover => "failover",
        Cause::Handover => "handover",
        Cause::Resumed => "resumed",
    }
}

impl Moves {
    /// Follows what there is to see until the announcer ends.
    pub(crate) async fn follow(self, mut view: watch::Receiver<Arc<View>>) {
        loop {
            let shown = view.borrow_and_update().clone();
            self.take(&shown, Instant::now(), now_ms());
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    /// The last move of an address.
    pub(crate) fn of(&self, ip: IpAddr) -> Option<Move> {
        self.lock().get(&ip).cloned()
    }

    /// Notes what only the new owner knows.
    pub(crate) fn happened(&self, node: &Name, report: &Report) {
        let Report::Took { ip, cause, silence, .. } = report else { return };
        let mut moves = self.lock();
        let known = moves.entry(*ip).or_insert_with(|| Move::new(None, Instant::now(), now_ms()));
        if known.node.as_ref() != Some(node) {
            known.go(Some(node.clone()), Instant::now(), now_ms());
        }
        known.moved.cause = Some(word(*cause).to_owned());
        known.moved.took_ms = silence.map(millis).or(known.moved.took_ms.filter(|_| *cause != Cause::Handover));
    }

    fn take(&self, view: &View, now: Instant, now_ms: u64) {
        let mut moves = self.lock();
        for (ip, (node, _)) in &view.announcers {
            match moves.get_mut(ip) {
                None => drop(moves.insert(*ip, Move::new(Some(node.clone()), now, now_ms))),
                Some(known) if known.node.as_ref() != Some(node) => known.go(Some(node.clone()), now, now_ms),
                Some(_) => {}
            }
        }
        for (ip, known) in moves.iter_mut() {
            if known.node.is_some() && !view.announcers.contains_key(ip) {
                known.go(None, now, now_ms);
            }
        }
        while moves.values().filter(|known| known.node.is_none()).count() > GONE {
            let gone = moves.iter().filter(|(_, known)| known.node.is_none());
            let Some(oldest) = gone.min_by_key(|(_, known)| known.seen).map(|(ip, _)| *ip) else { return };
            moves.remove(&oldest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, Move>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Move {
    fn new(node: Option<Name>, now: Instant, now_ms: u64) -> Self {
        Self { node, moved: Moved { since_ms: now_ms, ..Moved::default() }, seen: now }
    }

    /// What the node that announces the address says of it.
    pub(crate) fn told(node: Name, moved: Moved) -> Self {
        Self { node: Some(node), moved, seen: Instant::now() }
    }

    fn go(&mut self, to: Option<Name>, now: Instant, now_ms: u64) {
        let gap = self.node.is_none().then(|| millis(now.saturating_duration_since(self.seen)));
        let from = self.node.take().or(self.moved.from.take());
        // Between two nodes nobody announced it for as long as it stood nowhere.
        let took_ms = gap.filter(|_| to.is_some() && from.is_some());
        self.moved = Moved { since_ms: now_ms, from, cause: None, took_ms };
        (self.node, self.seen) = (to, now);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(node: Option<&str>) -> View {
        let announcers = node.map(|node| ("192.0.2.1".parse().unwrap(), (node.into(), vec!["eth0".into()])));
        View { announcers: announcers.into_iter().collect(), ..View::default() }
    }

    #[test]
    fn a_move_says_from_where_since_when_and_how_long_it_took() {
        let (moves, ip, start) = (Moves::default(), "192.0.2.1".parse().unwrap(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        moves.take(&view(Some("node-1")), at(0), 1000);
        let first = moves.of(ip).unwrap();
        assert_eq!((first.node.as_deref(), first.moved.since_ms, first.moved.took_ms), (Some("node-1"), 1000, None));
        moves.take(&view(None), at(500), 1500);
        assert_eq!(moves.of(ip).unwrap().node, None);
        moves.take(&view(Some("node-2")), at(720), 1720);
        let second = moves.of(ip).unwrap();
        assert_eq!((second.node.as_deref(), second.moved.from.as_deref()), (Some("node-2"), Some("node-1")));
        assert_eq!((second.moved.since_ms, second.moved.took_ms, second.moved.cause), (1720, Some(220), None));
        let took = Report::Took { ip, epoch: 3, cause: Cause::Failover, silence: Some(Duration::from_millis(205)) };
        moves.happened(&"node-2".into(), &took);
        let second = moves.of(ip).unwrap();
        let said =
            Moved { since_ms: 1720, from: Some("node-1".into()), cause: Some("failover".into()), took_ms: Some(205) };
        assert_eq!(second.moved, said);
        moves.take(&view(Some("node-1")), at(9000), 10_000);
        let back = moves.of(ip).unwrap();
        assert_eq!((back.moved.from.as_deref(), back.moved.took_ms, back.moved.cause), (Some("node-2"), None, None));
    }
}
