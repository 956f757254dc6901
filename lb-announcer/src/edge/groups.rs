//! Membership in solicited-node multicast groups, for every address on every interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use nix::libc;
use socket2::{Domain, Socket, Type};

/// Keeps the host in the solicited-node group (RFC 4291 section 2.7.1) of each announced address on each interface.
///
/// The groups are joined as any program joins one, so that the kernel reports them by MLD and switches that snoop
/// forward solicitations to this port; the frames themselves arrive at the
/// [`NdpSocket`](super::ndp::NdpSocket). Several addresses share a group when their last 24 bits are equal.
#[derive(Default)]
pub struct Groups {
    /// Sockets that hold memberships; the kernel limits the memory a single one may use for them
    /// (`net.core.optmem_max`, 20 KiB on older kernels, some 400 groups), so there may be several.
    holders: Vec<Socket>,
    interfaces: BTreeSet<u32>,
    /// How many addresses need the group.
    wanted: BTreeMap<Ipv6Addr, usize>,
    /// Which holder is a member, by interface and group.
    joined: BTreeMap<(u32, Ipv6Addr), usize>,
}

/// A group that could not be joined; [`Groups::retry`] tries again.
#[derive(Debug, thiserror::Error)]
#[error("cannot join multicast group {group} on interface {ifindex}")]
pub struct JoinError {
    /// The interface.
    pub ifindex: u32,
    /// The solicited-node group.
    pub group: Ipv6Addr,
    /// What the kernel said; `ENODEV` or `EADDRNOTAVAIL` when IPv6 is off on the interface.
    #[source]
    pub source: io::Error,
}

impl Groups {
    /// No address and no interface.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins the group of `address` on every interface; counted, so each `join` needs its own [`Groups::leave`].
    pub fn join(&mut self, address: Ipv6Addr) -> Vec<JoinError> {
        let group = solicited_node(address);
        *self.wanted.entry(group).or_default() += 1;
        let interfaces: Vec<u32> = self.interfaces.iter().copied().collect();
        interfaces.into_iter().filter_map(|ifindex| self.enter(ifindex, group).err()).collect()
    }

    /// Gives up one address; the last one of its group leaves the group on every interface.
    pub fn leave(&mut self, address: Ipv6Addr) {
        let group = solicited_node(address);
        let Some(count) = self.wanted.get_mut(&group) else { return };
        *count -= 1;
        if *count == 0 {
            self.wanted.remove(&group);
            self.exit_where(|_, member| member == group);
        }
    }

    /// Says on which interfaces addresses are announced: joins on those that are new, leaves on those that are gone.
    pub fn set_interfaces(&mut self, interfaces: impl IntoIterator<Item = u32>) -> Vec<JoinError> {
        self.interfaces = interfaces.into_iter().collect();
        let kept = self.interfaces.clone();
        self.exit_where(|ifindex, _| !kept.contains(&ifindex));
        self.retry()
    }

    /// Joins what is missing.
    pub fn retry(&mut self) -> Vec<JoinError> {
        let missing: Vec<(u32, Ipv6Addr)> = self
            .interfaces
            .iter()
            .flat_map(|ifindex| self.wanted.keys().map(|group| (*ifindex, *group)))
            .filter(|membership| !self.joined.contains_key(membership))
            .collect();
        missing.into_iter().filter_map(|(ifindex, group)| self.enter(ifindex, group).err()).collect()
    }

    fn enter(&mut self, ifindex: u32, group: Ipv6Addr) -> Result<(), JoinError> {
        if self.joined.contains_key(&(ifindex, group)) {
            return Ok(());
        }
        let holder = self.join_on_a_holder(ifindex, group).map_err(|source| JoinError { ifindex, group, source })?;
        self.joined.insert((ifindex, group), holder);
        Ok(())
    }

    /// Uses a holder that has room, and a further one once all are full.
    fn join_on_a_holder(&mut self, ifindex: u32, group: Ipv6Addr) -> io::Result<usize> {
        for (index, holder) in self.holders.iter().enumerate().rev() {
            match holder.join_multicast_v6(&group, ifindex) {
                Ok(()) => return Ok(index),
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // Datagrams to the groups are none of this socket's business: it has no port, so it receives none.
        let holder = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        holder.join_multicast_v6(&group, ifindex)?;
        self.holders.push(holder);
        Ok(self.holders.len() - 1)
    }

    fn exit_where(&mut self, mut leaves: impl FnMut(u32, Ipv6Addr) -> bool) {
        let holders = &self.holders;
        self.joined.retain(|(ifindex, group), holder| {
            let leaving = leaves(*ifindex, *group);
            if leaving && let Some(holder) = holders.get(*holder) {
                // Fails only when the interface is gone, and the membership with it.
                let _ = holder.leave_multicast_v6(group, *ifindex);
            }
            !leaving
        });
        if self.joined.is_empty() {
            self.holders.clear();
        }
    }
}

/// `ff02::1:ffXX:XXXX` with the last 24 bits of `address` (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_has_the_last_24_bits_of_the_address() {
        for (address, group) in [
            ("fd88::1", "ff02::1:ff00:1"),
            ("2001:db8::aabb:ccdd", "ff02::1:ffbb:ccdd"),
            ("4037::1:800:200e:8c6c", "ff02::1:ff0e:8c6c"),
        ] {
            assert_eq!(solicited_node(address.parse().unwrap()), group.parse::<Ipv6Addr>().unwrap());
        }
    }

    #[test]
    fn addresses_that_share_a_group_are_counted() {
        let mut groups = Groups::new();
        let (one, two) = ("fd88:1::5".parse().unwrap(), "fd88:2::5".parse().unwrap());
        assert!(groups.join(one).is_empty());
        assert!(groups.join(two).is_empty());
        groups.leave(one);
        assert_eq!(groups.wanted.len(), 1);
        groups.leave(two);
        groups.leave(two);
        assert!(groups.wanted.is_empty());
    }
}
