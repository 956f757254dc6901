//! Which connections to an address are in use, so that its neighbours are led elsewhere between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::announcer::Moment;
use crate::wire::segment::{Flow, Segment, Turn};

/// A connection that has been still for so long waits for something that needn't come soon.
const STILL: Duration = Duration::from_millis(100);

/// So soon after the end of one request the next is unlikely to be on its way already.
const JUST_ENDED: Duration = Duration::from_micros(300);
/// Clients that have said nothing for so long are as likely to begin at one moment as at another.
const IDLE: Duration = Duration::from_millis(10);

/// The connections of the clients of one address, as their segments tell.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// When each was last used; `None` once the client has ended it.
    flows: BTreeMap<Flow, Option<Moment>>,
    /// When a client last sent anything.
    last: Option<Moment>,
}

impl Exchanges {
    /// Takes a segment on its way to the address.
    pub fn on_segment(&mut self, now: Moment, segment: &Segment) {
        self.last = Some(now);
        let used = self.flows.entry(segment.flow).or_insert(Some(now));
        match segment.turn {
            Turn::Begins => *used = Some(now),
            // What follows the end only confirms it.
            Turn::GoesOn => *used = used.map(|_| now),
            Turn::Ends => *used = None,
        }
    }

    /// Whether no connection is in the middle of an exchange, and none is likely to begin before neighbours have heard.
    ///
    /// A segment that was sent but has not arrived yet is seen by nobody. Clients that ask one request after the other
    /// make a pause after each, so its beginning is the safest moment.
    pub fn leave_a_pause(&self, now: Moment) -> bool {
        let silent = self.last.map_or(Duration::MAX, |last| now.saturating_sub(last));
        self.are_over(now) && (silent <= JUST_ENDED || silent >= IDLE)
    }

    fn are_over(&self, now: Moment) -> bool {
        self.flows.values().flatten().all(|used| now.saturating_sub(*used) >= STILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(port: u16, turn: Turn) -> Segment {
        Segment { to: [10, 0, 0, 2].into(), flow: ([10, 0, 0, 1].into(), port, 80), turn }
    }

    #[test]
    fn an_exchange_lasts_until_the_client_ends_it_or_is_still() {
        let ms = Duration::from_millis;
        let mut exchanges = Exchanges::default();
        assert!(exchanges.are_over(ms(0)), "nothing was seen");
        exchanges.on_segment(ms(1), &segment(1, Turn::Begins));
        exchanges.on_segment(ms(2), &segment(1, Turn::GoesOn));
        assert!(!exchanges.are_over(ms(3)));
        exchanges.on_segment(ms(3), &segment(1, Turn::Ends));
        exchanges.on_segment(ms(4), &segment(1, Turn::GoesOn));
        assert!(exchanges.are_over(ms(4)), "the last acknowledgement doesn't begin it anew");
        exchanges.on_segment(ms(5), &segment(2, Turn::GoesOn));
        exchanges.on_segment(ms(5), &segment(1, Turn::Begins));
        assert!(!exchanges.are_over(ms(104)));
        assert!(exchanges.are_over(ms(105)), "long connections don't hold up anything");
    }

    #[test]
    fn a_pause_is_best_used_at_its_beginning() {
        let us = Duration::from_micros;
        let mut exchanges = Exchanges::default();
        assert!(exchanges.leave_a_pause(us(0)), "nobody talks");
        exchanges.on_segment(us(1_000), &segment(1, Turn::Begins));
        assert!(!exchanges.leave_a_pause(us(1_100)), "it is under way");
        exchanges.on_segment(us(1_500), &segment(1, Turn::Ends));
        for (at, good) in [(1_500, true), (1_800, true), (1_801, false), (11_499, false), (11_500, true)] {
            assert_eq!(exchanges.leave_a_pause(us(at)), good, "{at} us");
        }
    }
}
