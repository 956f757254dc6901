//! Which interfaces addresses may be announced on, and why not on the others.

use std::fmt;

use regex::{RegexSet, RegexSetBuilder};

use super::{Link, Links};

/// Names of interfaces that are never meant for announcing: MetalLB's default list, tunnels and pod interfaces.
pub const DEFAULT_EXCLUSIONS: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// The interfaces an operator allows, by name.
#[derive(Clone, Debug)]
pub struct Selection {
    /// `None`: every interface but the excluded ones.
    included: Option<RegexSet>,
    excluded: RegexSet,
}

/// Why addresses are not announced on an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its name is one of the excluded ones.
    Excluded,
    /// Interfaces were selected by name, and this is none of them.
    NotSelected,
    /// It is the loopback interface.
    Loopback,
    /// It is not Ethernet.
    NotEthernet,
    /// It does not resolve neighbours.
    NoArp,
    /// It is part of this other interface, which speaks for it.
    PortOf(String),
    /// It is turned off.
    Down,
    /// It is turned on but has no carrier.
    NoCarrier,
}

impl Selection {
    /// Allows the interfaces whose whole name matches one of `patterns`; without a pattern all but
    /// [`DEFAULT_EXCLUSIONS`].
    ///
    /// Who names interfaces means them, so the exclusions do not apply to those. Fails on a pattern that is not a
    /// regular expression.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, regex::Error> {
        Self::with_exclusions(patterns, &DEFAULT_EXCLUSIONS)
    }

    /// As [`Selection::new`], with other exclusions; as in MetalLB these match anywhere in a name.
    pub fn with_exclusions<S: AsRef<str>, E: AsRef<str>>(
        patterns: &[S],
        exclusions: &[E],
    ) -> Result<Self, regex::Error> {
        let included = if patterns.is_empty() {
            None
        } else {
            // Each pattern is compiled alone first: wrapped in a group, a stray bracket could find its partner there.
            for pattern in patterns {
                regex::Regex::new(pattern.as_ref())?;
            }
            Some(RegexSet::new(patterns.iter().map(|pattern| format!("^(?:{})$", pattern.as_ref())))?)
        };
        let excluded = RegexSetBuilder::new(exclusions.iter().map(AsRef::as_ref)).build()?;
        Ok(Self { included, excluded })
    }

    /// Why nothing is announced on `link`, which is one of `links`; `None` when it is fit.
    ///
    /// Reasons that lie in what the interface is come before those that may pass.
    pub fn refusal(&self, link: &Link, links: &Links) -> Option<Refusal> {
        let selected = self.included.as_ref().map(|included| included.is_match(&link.name));
        match selected {
            Some(false) => return Some(Refusal::NotSelected),
            None if self.excluded.is_match(&link.name) => return Some(Refusal::Excluded),
            _ => {}
        }
        let traits = link.traits;
        if traits.loopback {
            return Some(Refusal::Loopback);
        }
        if link.mac.is_none() || !traits.broadcast {
            return Some(Refusal::NotEthernet);
        }
        if traits.no_arp {
            return Some(Refusal::NoArp);
        }
        let master = link.master.map(|ifindex| (ifindex, links.get(ifindex)));
        match master {
            Some((_, Some(master))) if master.traits.vrf => {}
            Some((_, Some(master))) => return Some(Refusal::PortOf(master.name.clone())),
            // The master lives in another network namespace.
            Some((ifindex, None)) => return Some(Refusal::PortOf(format!("#{ifindex}"))),
            None => {}
        }
        match (link.up, link.carrier) {
            (false, _) => Some(Refusal::Down),
            (true, false) => Some(Refusal::NoCarrier),
            (true, true) => None,
        }
    }

    /// The interfaces that are fit, by ascending ifindex.
    pub fn fit<'a>(&self, links: &'a Links) -> impl Iterator<Item = &'a Link> {
        links.iter().filter(|link| self.refusal(link, links).is_none())
    }
}

impl Default for Selection {
    /// Every interface but [`DEFAULT_EXCLUSIONS`].
    fn default() -> Self {
        Self::new::<&str>(&[]).expect("the default exclusions are regular expressions")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded => f.write_str("its name is excluded by default"),
            Self::NotSelected => f.write_str("its name matches none of the selected interfaces"),
            Self::Loopback => f.write_str("it is the loopback interface"),
            Self::NotEthernet => f.write_str("it is not Ethernet"),
            Self::NoArp => f.write_str("it does not resolve neighbours"),
            Self::PortOf(master) => write!(f, "it is part of {master}"),
            Self::Down => f.write_str("it is down"),
            Self::NoCarrier => f.write_str("it has no carrier"),
        }
    }
}

#[cfg(test)]
mod tests;
