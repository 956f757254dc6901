//! How short memory is.

use std::sync::Weak;
use std::time::Duration;

use super::Ledger;

/// How short memory is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pressure {
    /// There is enough.
    None,
    /// Four fifths of the limit are in use: less is read at a time.
    Tight,
    /// Nineteen twentieths are: nothing new is begun.
    Full,
}

impl Pressure {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tight => "tight",
            Self::Full => "full",
        }
    }

    pub(super) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Tight,
            _ => Self::Full,
        }
    }

    /// What it is with `used` of `limit`. It ends a twentieth below where it begins, so that it doesn't come and go with
    /// each look.
    fn next(self, used: u64, limit: u64) -> Self {
        let twentieths = u128::from(used) * 20 / u128::from(limit.max(1));
        let (full, tight) = (if self == Self::Full { 18 } else { 19 }, if self == Self::None { 16 } else { 15 });
        match twentieths {
            share if share >= full => Self::Full,
            share if share >= tight => Self::Tight,
            _ => Self::None,
        }
    }
}

/// Pause between two looks, and while memory runs short.
const LOOK: Duration = Duration::from_millis(250);
const CLOSE_LOOK: Duration = Duration::from_millis(50);

/// Looks at the memory of the process for as long as somebody has the ledger. To be run on a thread of its own, which
/// nothing on the data path holds up.
pub(crate) fn watch(ledger: &Weak<Ledger>) {
    let mut pressure = Pressure::None;
    while let Some(ledger) = ledger.upgrade() {
        let Some(limit) = ledger.limit() else { return };
        let Some(used) = resident() else {
            tracing::warn!(
                "the memory of this process can't be read from /proc/self/status, so --memory-limit has no effect"
            );
            return;
        };
        let next = pressure.next(used, limit);
        ledger.note(used, next);
        if next != pressure {
            tell(&ledger, next, used, limit);
        }
        pressure = next;
        drop(ledger);
        // Half of the limit can't be taken within one look.
        std::thread::sleep(if used > limit / 2 { CLOSE_LOOK } else { LOOK });
    }
}

fn tell(ledger: &Ledger, pressure: Pressure, used: u64, limit: u64) {
    let amounts = ledger.amounts();
    let (exchanges, heads, bodies) = (amounts.exchanges, amounts.heads, amounts.bodies);
    match pressure {
        Pressure::None => tracing::info!(used, limit, exchanges, heads, bodies, "memory is no longer short"),
        Pressure::Tight => {
            tracing::warn!(used, limit, exchanges, heads, bodies, "memory is short: less is read at a time");
        }
        Pressure::Full => tracing::error!(
            used,
            limit,
            exchanges,
            heads,
            bodies,
            "memory is at its limit: new connections, streams and requests are refused; raise --memory-limit or add replicas"
        ),
    }
}

/// Bytes that the process has resident: proc(5).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_above_where_it_ends() {
        let mut pressure = Pressure::None;
        let steps = [
            (79, Pressure::None),
            (80, Pressure::Tight),
            (76, Pressure::Tight),
            (94, Pressure::Tight),
            (95, Pressure::Full),
            (91, Pressure::Full),
            (89, Pressure::Tight),
            (94, Pressure::Tight),
            (74, Pressure::None),
            (99, Pressure::Full),
            (10, Pressure::None),
        ];
        for (used, expected) in steps {
            pressure = pressure.next(used, 100);
            assert_eq!(pressure, expected, "{used} of 100");
        }
    }

    #[test]
    fn the_memory_of_the_process_is_known() {
        assert!(resident().unwrap() > 1 << 20);
    }
}
