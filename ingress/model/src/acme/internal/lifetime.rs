//! How long certificates are valid.

use std::fmt;

/// A time that a certificate is valid for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lifetime(u64);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Units, the greatest first.
const UNITS: [(&str, u64); 4] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)];
/// Below this, whoever is away for a cup of tea comes back to an expired certificate.
const SHORTEST: u64 = MINUTE;
/// Of a root that we make: devices that trust it need no other for as long as they live.
const ROOT: u64 = 20 * 365 * DAY;

impl Lifetime {
    /// Of a certificate, unless the issuer says otherwise.
    pub const LEAF: Self = Self(7 * DAY);
    /// The longest of a certificate: Apple's systems take 825 days, public CAs sign for 398.
    pub const LONGEST_LEAF: Self = Self(398 * DAY);
    /// Of an intermediate, unless the issuer says otherwise.
    pub const INTERMEDIATE: Self = Self(365 * DAY);
    /// Of a root that we make.
    pub const ROOT: Self = Self(ROOT);

    /// Reads a number with its unit: `7d`, `12h`, `90m` or `120s`; a minute to ten years.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unit = UNITS.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
        let seconds = unit.and_then(|(number, unit)| number.parse::<u64>().ok()?.checked_mul(unit));
        let seconds = seconds.ok_or_else(|| format!("{text:?} is not a time such as 7d, 12h or 90m"))?;
        if !(SHORTEST..=10 * 365 * DAY).contains(&seconds) {
            return Err(format!("{text:?} is not from 1m to 3650d"));
        }
        Ok(Self(seconds))
    }

    /// In seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    pub(super) const fn twice(self) -> Self {
        Self(self.0 * 2)
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) =
            UNITS.into_iter().find(|(_, seconds)| self.0.is_multiple_of(*seconds)).unwrap_or(("s", 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        for (text, seconds) in [("7d", 604_800), ("12h", 43_200), ("90m", 5_400), (" 61s ", 61)] {
            let parsed = Lifetime::parse(text).unwrap();
            assert_eq!((parsed.seconds(), parsed.to_string().as_str()), (seconds, text.trim()));
        }
        for text in ["", "7", "d", "-1d", "59s", "3651d", "1y", "99999999999999999999d"] {
            assert!(Lifetime::parse(text).is_err(), "{text}");
        }
    }
}
