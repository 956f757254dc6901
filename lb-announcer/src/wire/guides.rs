//! Leads the neighbours of an address that was handed over to its new owner, between two exchanges if it can.
//!
//! A TCP connection doesn't survive that its client sends to another node from one segment to the next: the other
//! node's kernel resets what it has never heard of. Nothing on this layer can save a connection that lasts, but most
//! requests are over in less than a millisecond, and there is nearly always a moment between two of them.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::select_all;
use landfall_lb_model::announcer::{Exchanges, Moment};
use landfall_lb_model::wire::MacAddr;
use landfall_lb_model::wire::segment::Segment;

use crate::edge::packet::Frames;
use crate::edge::traffic::{Family, TrafficSocket};

/// How long clients are watched at least: an exchange that began before is seen by then, or over.
const LEAST: Duration = Duration::from_millis(20);
/// How long clients that never pause are waited for. The new owner announces itself after 500 ms.
const MOST: Duration = Duration::from_millis(400);
/// How often is looked while nothing happens.
const LOOK: Duration = Duration::from_millis(1);

/// One address whose neighbours are to be led elsewhere.
struct Guide {
    since: Moment,
    frames: Vec<(u32, Vec<u8>)>,
    exchanges: Exchanges,
}

/// All of them, and the sockets through which their clients are seen.
#[derive(Default)]
pub(super) struct Guides {
    waiting: BTreeMap<IpAddr, Guide>,
    taps: BTreeMap<(u32, Family), (TrafficSocket, Frames)>,
}

impl Guides {
    /// Takes frames to send at the next good moment; `macs` are the interfaces' own addresses.
    pub(super) fn add(&mut self, now: Moment, ip: IpAddr, frames: Vec<(u32, Vec<u8>)>, macs: &BTreeMap<u32, MacAddr>) {
        let links: Vec<u32> = frames.iter().map(|(link, _)| *link).collect();
        self.waiting.insert(ip, Guide { since: now, frames, exchanges: Exchanges::default() });
        let ips: Vec<IpAddr> = self.waiting.keys().copied().collect();
        for link in links {
            let Some(mac) = macs.get(&link) else { continue };
            let key = (link, Family::of(ip));
            let opened = match self.taps.get(&key) {
                Some((tap, _)) => tap.watch(*mac, &ips),
                None => TrafficSocket::open(link, *mac, key.1, &ips)
                    .map(|tap| drop(self.taps.insert(key, (tap, Frames::new())))),
            };
            if let Err(error) = opened {
                tracing::debug!(%error, "cannot see the clients of an address, so its neighbours are led away at once");
            }
        }
    }

    /// Whether nothing is left to be sent.
    pub(super) fn are_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long the caller may wait before it looks again.
    pub(super) fn patience(&self) -> Duration {
        if self.waiting.is_empty() { Duration::MAX } else { LOOK }
    }

    /// Waits until a client sends something.
    pub(super) async fn wait(&mut self, now: impl Fn() -> Moment) {
        if self.taps.is_empty() {
            return pending().await;
        }
        let waiting = self.taps.values_mut().map(|(tap, frames)| {
            Box::pin(async move {
                // An error is seen again, and told, where the interface's other sockets are read.
                let _ = tap.recv(frames).await;
                &*frames
            })
        });
        let (frames, ..) = select_all(waiting).await;
        read(&mut self.waiting, now(), frames);
    }

    /// Looks at what clients have sent and hands over the frames of one address that are to be sent at this moment.
    pub(super) fn due(&mut self, now: Moment) -> Option<Vec<(u32, Vec<u8>)>> {
        for (tap, frames) in self.taps.values_mut() {
            while tap.try_recv(frames).is_ok() {
                read(&mut self.waiting, now, frames);
            }
        }
        let due = self.waiting.iter().find(|(_, guide)| {
            let watched = now.saturating_sub(guide.since);
            watched >= MOST || watched >= LEAST && guide.exchanges.leave_a_pause(now)
        });
        let ip = due.map(|(ip, _)| *ip);
        let guide = ip.and_then(|ip| self.waiting.remove(&ip));
        if let (Some(ip), Some(guide)) = (ip, &guide) {
            let waited_ms = now.saturating_sub(guide.since).as_millis();
            tracing::debug!(%ip, waited_ms, in_a_pause = guide.exchanges.leave_a_pause(now), "clients are led to the new owner");
        }
        if self.waiting.is_empty() {
            self.taps.clear();
        }
        guide.map(|guide| guide.frames)
    }
}

fn read(waiting: &mut BTreeMap<IpAddr, Guide>, now: Moment, frames: &Frames) {
    for segment in frames.iter().filter_map(Segment::decode) {
        if let Some(guide) = waiting.get_mut(&segment.to) {
            guide.exchanges.on_segment(now, &segment);
        }
    }
}
