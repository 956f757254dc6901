//! What went wrong, and how long it is waited before the next try.

use landfall_model::Reason;
use serde::{Deserialize, Serialize};

use crate::reason;

/// What kind of thing went wrong; decides about the pause and about who else waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The CA can't be reached, or fails.
    Unreachable,
    /// The CA refuses the account.
    Account,
    /// A limit of the CA's.
    RateLimited,
    /// We have found ourselves that the CA could not reach the challenge; it was not asked.
    SelfCheck,
    /// A TXT record could not be set, or name servers do not show it; the CA was not asked to look.
    Dns,
    /// The CA has not found the challenge.
    Validation,
    /// A CAA record forbids the CA to issue for the host.
    Caa,
    /// The CA refuses the order or a name in it.
    Refused,
    /// The certificate could not be stored.
    Storing,
    /// A CA of our own can't be used.
    Authority,
    /// A CA of our own must not sign for the host.
    NotPermitted,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

impl Kind {
    /// The reason code in Event, log line and metric.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Unreachable => reason::ACME_UNREACHABLE,
            Self::Account => reason::ACME_ACCOUNT_REFUSED,
            Self::RateLimited => reason::ACME_RATE_LIMITED,
            Self::SelfCheck => reason::ACME_CHALLENGE_UNREACHABLE,
            Self::Dns => reason::ACME_DNS_FAILED,
            Self::Validation => reason::ACME_VALIDATION_FAILED,
            Self::Caa => reason::ACME_FORBIDDEN_BY_CAA,
            Self::Refused => reason::ACME_REFUSED,
            Self::Storing => reason::ACME_NOT_STORED,
            Self::Authority => reason::ACME_AUTHORITY_UNUSABLE,
            Self::NotPermitted => reason::ACME_UNPROVABLE_HOST,
        }
    }

    /// The pauses after the first failure, the second and so on, in seconds; the last one stays.
    ///
    /// Let's Encrypt takes five failed validations of a host in an hour. Those of `Validation` are at 0, 1, 11 and 51
    /// minutes, so that one is left for a person who tries by hand; what failed by chance (a name server that was slow,
    /// a record that was new) is over after the first of them. A self-check asks nobody but us.
    const fn pauses(self) -> &'static [u64] {
        match self {
            Self::Unreachable => &[5, 10, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE],
            Self::Account => &[MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR],
            Self::RateLimited => &[HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR],
            Self::SelfCheck => &[5, 10, 20, 40, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE],
            // Providers count writes: deSEC takes 300 a day for a domain.
            Self::Dns => &[15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE],
            Self::Validation | Self::Caa => &[MINUTE, 10 * MINUTE, 40 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR],
            Self::Refused => &[10 * MINUTE, HOUR, 3 * HOUR, 12 * HOUR, 24 * HOUR],
            // These ask nobody but us and the API server.
            Self::Storing | Self::Authority | Self::NotPermitted => &[5, 15, MINUTE, 5 * MINUTE, 10 * MINUTE],
        }
    }
}

/// Something that went wrong, how often in a row, and when it is tried again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// What kind.
    pub kind: Kind,
    /// Failures in a row.
    pub failures: u32,
    /// When, in seconds since the epoch, the last one was.
    pub at: u64,
    /// When it is tried again.
    pub next: u64,
    /// What was said, in the CA's own words where it was asked.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// A failure as it happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What was said.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
    /// When the CA wants to be asked again, in seconds since the epoch.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure that says no time.
    pub fn new(kind: Kind, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, error: error.into(), remedy: remedy.into(), retry_after: None }
    }
}

impl Trouble {
    /// Another failure of `name`, after `before`.
    pub fn after(before: Option<&Self>, failure: Failure, name: &str, now: u64) -> Self {
        let Failure { kind, error, remedy, retry_after } = failure;
        let failures = before.filter(|before| before.kind == kind).map_or(0, |before| before.failures) + 1;
        let pauses = kind.pauses();
        let index = usize::try_from(failures - 1).unwrap_or(usize::MAX).min(pauses.len() - 1);
        let pause = pauses[index];
        // A tenth more at most, by name: many that failed together are not tried together.
        let pause = pause + share(name, u64::from(failures), pause / 10);
        let next = (now + pause).max(retry_after.unwrap_or(0));
        Self { kind, failures, at: now, next, error, remedy }
    }
}

/// A number from 0 to `of` that is always the same for `name` and `salt`.
pub(crate) fn share(name: &str, salt: u64, of: u64) -> u64 {
    steady(name.bytes().chain(salt.to_be_bytes())) % (of + 1)
}

/// FNV-1a: the standard library's hash may be another one in its next version, and neither the time of a renewal nor
/// the name of an account must move with it.
pub(crate) fn steady(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step);
    // Its upper bits are spread worst for short names.
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_validations_stay_below_the_limit_of_five_an_hour() {
        let (mut now, mut times, mut trouble) = (0, Vec::new(), None);
        while now < 7 * 24 * HOUR {
            times.push(now);
            let failure = Failure::new(Kind::Validation, "no", "");
            let next = Trouble::after(trouble.as_ref(), failure, "a.example", now);
            now = next.next;
            trouble = Some(next);
        }
        for start in &times {
            let within = times.iter().filter(|time| (*start..start + HOUR).contains(time)).count();
            assert!(within <= 4, "{within} tries in the hour after {start}: {times:?}");
        }
        assert!(times.len() < 30, "{times:?}");
    }

    #[test]
    fn a_time_that_the_ca_names_is_waited_for_and_another_kind_begins_anew() {
        let late = Failure { retry_after: Some(1_000_000), ..Failure::new(Kind::RateLimited, "too many", "") };
        let first = Trouble::after(None, late, "x", 1_000);
        assert_eq!((first.failures, first.next), (1, 1_000_000));
        let second = Trouble::after(Some(&first), Failure::new(Kind::SelfCheck, "no", ""), "x", 1_000);
        assert_eq!(second.failures, 1);
        assert!((1_005..=1_006).contains(&second.next), "{second:?}");
        let third = Trouble::after(Some(&second), Failure::new(Kind::SelfCheck, "no", ""), "x", 1_006);
        assert_eq!((third.failures, third.next), (2, 1_016 + share("x", 2, 1)));
    }

    #[test]
    fn shares_are_steady_and_spread() {
        assert_eq!(share("shop/web", 1, 1000), share("shop/web", 1, 1000));
        let shares: std::collections::BTreeSet<u64> = (0..100).map(|n| share(&format!("shop/{n}"), 1, 1000)).collect();
        assert!(shares.len() > 80, "{shares:?}");
    }
}
