//! Addresses as numbers, and the syntax of a pool's entries.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// Bits in an address.
    pub fn bits(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with this number, which is taken modulo the family's size.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => {
                let low = u32::try_from(number & u128::from(u32::MAX)).unwrap_or(u32::MAX);
                IpAddr::V4(Ipv4Addr::from(low))
            }
            Self::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The number of an address within its family.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// A run of addresses of one family, both ends included, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Span {
    family: Family,
    first: u128,
    last: u128,
}

impl Span {
    /// The run from `first` to `last`; `None` when they are reversed.
    pub fn new(family: Family, first: u128, last: u128) -> Option<Self> {
        (first <= last).then_some(Self { family, first, last })
    }

    /// Just `ip`.
    pub fn one(ip: IpAddr) -> Self {
        Self { family: Family::of(ip), first: number(ip), last: number(ip) }
    }

    /// The prefix of `length` bits that holds `ip`; `None` when the length is too long for the family.
    pub fn prefix(ip: IpAddr, length: u32) -> Option<Self> {
        let family = Family::of(ip);
        let free = family.bits().checked_sub(length)?;
        let mask = if free == 128 { u128::MAX } else { (1u128 << free) - 1 };
        let first = number(ip) & !mask;
        Some(Self { family, first, last: first | mask })
    }

    /// The family.
    pub fn family(self) -> Family {
        self.family
    }

    /// The lowest number.
    pub fn first(self) -> u128 {
        self.first
    }

    /// The highest number.
    pub fn last(self) -> u128 {
        self.last
    }

    /// How many addresses it has, at most `u128::MAX`.
    pub fn size(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether `ip` is in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family && (self.first..=self.last).contains(&number(ip))
    }

    /// What both have in common.
    pub fn intersect(self, other: Self) -> Option<Self> {
        if self.family != other.family {
            return None;
        }
        Self::new(self.family, self.first.max(other.first), self.last.min(other.last))
    }

    /// What is left without `other`, in ascending order.
    pub fn without(self, other: Self) -> Vec<Self> {
        let Some(cut) = self.intersect(other) else { return vec![self] };
        let below = cut.first.checked_sub(1).and_then(|last| Self::new(self.family, self.first, last));
        let above = cut.last.checked_add(1).and_then(|first| Self::new(self.family, first, self.last));
        below.into_iter().chain(above).collect()
    }
}

impl fmt::Display for Span {
    /// The address if there is one only, else `first-last`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.family.address(self.first))?;
        if self.last != self.first {
            write!(f, "-{}", self.family.address(self.last))?;
        }
        Ok(())
    }
}

/// One entry of a pool's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The addresses.
    pub span: Span,
    /// What the entry does with them.
    pub role: Role,
    /// Whether the prefix was written with bits after its length, as in `192.168.2.130/28`.
    pub masked: bool,
}

/// What an entry does with its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Puts them into the pool.
    Include,
    /// Takes them out again: written with `!` before it.
    Exclude,
}

/// Why an entry can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    /// Nothing is there.
    #[error("the entry is empty")]
    Empty,
    /// Not an address.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// Not a prefix length of that family.
    #[error("{length:?} is not a prefix length of {family}, which goes from 0 to {}", family.bits())]
    NotALength {
        /// As written.
        length: String,
        /// Of the address before the slash.
        family: Family,
    },
    /// The first address is greater than the last.
    #[error("the range ends before it begins")]
    Reversed,
    /// One end is IPv4 and the other IPv6.
    #[error("the range mixes IPv4 and IPv6")]
    Mixed,
}

impl Entry {
    /// Reads a prefix, a range `first-last` or an address, with `!` before it to exclude.
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        let text = text.trim();
        let (role, body) = match text.strip_prefix('!') {
            Some(rest) => (Role::Exclude, rest.trim()),
            None => (Role::Include, text),
        };
        if body.is_empty() {
            return Err(EntryError::Empty);
        }
        let (span, masked) = if let Some((first, last)) = body.split_once('-') {
            (range(address(first)?, address(last)?)?, false)
        } else if let Some((ip, length)) = body.split_once('/') {
            prefix(address(ip)?, length)?
        } else {
            (Span::one(address(body)?), false)
        };
        Ok(Self { span, role, masked })
    }
}

fn address(text: &str) -> Result<IpAddr, EntryError> {
    let ip: IpAddr = text.trim().parse().map_err(|_| EntryError::NotAnAddress(text.trim().to_owned()))?;
    Ok(ip.to_canonical())
}

fn range(first: IpAddr, last: IpAddr) -> Result<Span, EntryError> {
    if Family::of(first) != Family::of(last) {
        return Err(EntryError::Mixed);
    }
    Span::new(Family::of(first), number(first), number(last)).ok_or(EntryError::Reversed)
}

fn prefix(ip: IpAddr, length: &str) -> Result<(Span, bool), EntryError> {
    let wrong = || EntryError::NotALength { length: length.to_owned(), family: Family::of(ip) };
    if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let bits = length.parse().map_err(|_| wrong())?;
    let span = Span::prefix(ip, bits).ok_or_else(wrong)?;
    Ok((span, span.first() != number(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match Entry::parse(text) {
            Ok(entry) => format!(
                "{}{}{}",
                if entry.role == Role::Exclude { "!" } else { "" },
                entry.span,
                if entry.masked { " masked" } else { "" }
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn entries_are_read_in_every_form() {
        check("192.168.10.0/30", "192.168.10.0-192.168.10.3");
        check("192.168.2.130/28", "192.168.2.128-192.168.2.143 masked");
        check("192.168.9.1-192.168.9.5", "192.168.9.1-192.168.9.5");
        check(" 192.168.9.1 - 192.168.9.5 ", "192.168.9.1-192.168.9.5");
        check("192.168.9.7", "192.168.9.7");
        check("192.168.9.7/32", "192.168.9.7");
        check("!192.168.9.7", "!192.168.9.7");
        check("! fd00::/126", "!fd00::-fd00::3");
        check("fc00:f853:0ccd:e799::/124", "fc00:f853:ccd:e799::-fc00:f853:ccd:e799::f");
        check("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        check("::ffff:10.0.0.1-10.0.0.2", "10.0.0.1-10.0.0.2");
    }

    #[test]
    fn wrong_entries_are_refused_with_the_reason() {
        check("", "the entry is empty");
        check("!", "the entry is empty");
        check("192.168.9.5-192.168.9.1", "the range ends before it begins");
        check("10.0.0.1-fd00::1", "the range mixes IPv4 and IPv6");
        check("::1-1.2.3.4", "the range mixes IPv4 and IPv6");
        check("10.0.0.0/33", "\"33\" is not a prefix length of IPv4, which goes from 0 to 32");
        check("10.0.0.0/+8", "\"+8\" is not a prefix length of IPv4, which goes from 0 to 32");
        check("fd00::/", "\"\" is not a prefix length of IPv6, which goes from 0 to 128");
        check("10.0.0.256", "\"10.0.0.256\" is not an IP address");
        check("10.0.0.01", "\"10.0.0.01\" is not an IP address");
        check("fe80::1%eth0", "\"fe80::1%eth0\" is not an IP address");
        check("pool", "\"pool\" is not an IP address");
    }
}
