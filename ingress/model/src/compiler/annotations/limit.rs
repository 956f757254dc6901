//! How much one client may ask.

use std::num::NonZeroU64;
use std::sync::Arc;

use ipnet::IpNet;

use super::fault::Fault;
use super::value::number;
use super::{Annotations, PREFIX, Read};
use crate::access;
use crate::compiler::options::Options;
use crate::policy::{Limit, Pace, Rate};
use crate::table::Dialect;

/// `limit-burst-multiplier`, where nothing is said.
const BURST: i64 = 5;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Limits {
    per_second: Option<i64>,
    per_minute: Option<i64>,
    at_once: Option<i64>,
    burst: Option<i64>,
    exempt: Box<[IpNet]>,
    /// KiB in a second, and KiB before that counts.
    rate: Option<u64>,
    rate_after: Option<u64>,
}

impl Limits {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.limit;
        let positive = |value: &str| number(value).map(|number| (number > 0).then_some(number));
        let read = match name {
            "limit-rps" => positive(value).map(|number| this.per_second = number),
            "limit-rpm" => positive(value).map(|number| this.per_minute = number),
            "limit-connections" => positive(value).map(|number| this.at_once = number),
            "limit-rate" => {
                this.rate = Some(kibibytes(value)?);
                return Ok(Read::Taken);
            }
            "limit-rate-after" => {
                this.rate_after = Some(kibibytes(value)?);
                return Ok(Read::Taken);
            }
            "limit-burst-multiplier" => {
                let burst = number(value)?;
                if burst < 1 {
                    return Err(Fault::Value("give a number from 1 up"));
                }
                this.burst = Some(burst);
                return Ok(Read::Taken);
            }
            "limit-allowlist" | "limit-whitelist" => {
                access::ranges(value).map(|ranges| this.exempt = ranges).map_err(|entry| Fault::Range(entry.to_owned()))
            }
            _ => return Ok(Read::Foreign),
        };
        // A limit that can't be read would be none.
        if let Err(fault) = read {
            all.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} can't be read").into());
            return Err(match fault {
                Fault::Value(remedy) => Fault::Closed(remedy),
                fault => fault,
            });
        }
        Ok(Read::Taken)
    }

    /// How fast bodies are sent.
    pub(super) fn pace(&self, dialect: Dialect, options: &Options) -> Option<Pace> {
        let options = options.of(dialect);
        let rate = self.rate.unwrap_or(options.rate);
        let after = self.rate_after.unwrap_or(options.rate_after).saturating_mul(1024);
        Some(Pace { bytes_per_second: NonZeroU64::new(rate.saturating_mul(1024))?, after })
    }

    /// The limits, counted together with those of the same zone.
    pub(super) fn limit(&self, zone: u64, options: &Options) -> Option<Arc<Limit>> {
        if self.per_second.is_none() && self.per_minute.is_none() && self.at_once.is_none() {
            return None;
        }
        let burst = self.burst.unwrap_or(BURST);
        let rate = |number: i64, seconds: u64| {
            let number_of = u64::try_from(number).unwrap_or_default();
            let milli = number_of.saturating_mul(1000) / seconds;
            Rate { milli, burst: u64::try_from(number.saturating_mul(burst)).unwrap_or_default() }
        };
        Some(Arc::new(Limit {
            zone,
            per_second: self.per_second.map(|number| rate(number, 1)),
            per_minute: self.per_minute.map(|number| rate(number, 60)),
            at_once: self.at_once.and_then(|number| u32::try_from(number).ok()),
            exempt: self.exempt.clone(),
            status: options.limit_status,
            crowded: options.crowded_status,
        }))
    }
}

/// A number of KiB; 0 is no limit.
pub(crate) fn kibibytes(value: &str) -> Result<u64, Fault> {
    u64::try_from(number(value)?).map_err(|_| Fault::Value("give a number of KiB, or 0 for no limit"))
}
