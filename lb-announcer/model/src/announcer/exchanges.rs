//! Which connections to an address are in use, so that its neighbours are led elsewhere between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::announcer::Moment;
use crate::wire::segment::{Flow, Segment, Turn};

/// A connection that has been still for so long waits for something that needn't come soon.
const STILL: Duration = Duration::from_millis(100);

/// The connections of the clients of one address, as their segments tell.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// When each was last used; `None` once the client has ended it.
    flows: BTreeMap<Flow, Option<Moment>>,
}

impl Exchanges {
    /// Takes a segment on its way to the address.
    pub fn on_segment(&mut self, now: Moment, segment: &Segment) {
        let used = self.flows.entry(segment.flow).or_insert(Some(now));
        match segment.turn {
            Turn::Begins => *used = Some(now),
            // What follows the end only confirms it.
            Turn::GoesOn => *used = used.map(|_| now),
            Turn::Ends => *used = None,
        }
    }

    /// Whether no connection is in the middle of an exchange.
    pub fn are_over(&self, now: Moment) -> bool {
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
}
