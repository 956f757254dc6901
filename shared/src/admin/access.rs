//! Who may see the page: it shows requests, addresses and names of objects.
//!
//! The admin port itself has to be open to kubelets and to Prometheus, in a cluster therefore to every pod. The page is
//! not: by default only this machine sees it, which is what `kubectl port-forward` makes of its user.

use std::fmt;
use std::net::IpAddr;

use clap::Args;
use http::uri::Authority;
use ipnet::IpNet;

/// Who may see the page.
#[derive(Args, Clone, Debug, Default)]
pub struct PageAccess {
    /// Networks from which the page may be seen, besides this machine; `0.0.0.0/0,::/0` for all.
    #[arg(long, env = "LANDFALL_PAGE_FROM", value_name = "CIDR", value_delimiter = ',')]
    pub page_from: Vec<IpNet>,
    /// A name under which the page is asked for, where it is neither localhost nor an address; repeatable.
    #[arg(long, env = "LANDFALL_PAGE_HOST", value_name = "NAME", value_delimiter = ',')]
    pub page_host: Vec<String>,
}

/// Peers that see the page whatever their address: the replicas that serve it by an Ingress.
type Trusted = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Decides who may see the page.
pub(super) struct Access {
    args: PageAccess,
    trusted: Option<Trusted>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("args", &self.args).finish_non_exhaustive()
    }
}

impl Access {
    pub(super) fn new(args: PageAccess, trusted: Option<Trusted>) -> Self {
        Self { args, trusted }
    }

    /// Whether a peer that asks for a host may see the page; if not, why, and what to do. `forwarded` is the host that a
    /// proxy in between was asked for: replicas pass on what other Ingresses lead to, too.
    pub(super) fn check(&self, peer: IpAddr, host: Option<&str>, forwarded: Option<&str>) -> Result<(), String> {
        let peer = peer.to_canonical();
        if forwarded.is_some_and(|host| self.is_known(&name_of(host)))
            && self.trusted.as_ref().is_some_and(|trusted| trusted(peer))
        {
            return Ok(());
        }
        if !peer.is_loopback() && !self.args.page_from.iter().any(|net| net.contains(&peer)) {
            return Err(format!(
                "the page is shown on this machine only, and {peer} is another one\n\
                 in a cluster: kubectl port-forward POD 10254, and open http://localhost:10254/\n\
                 elsewhere: start the program with --page-from and the network that may see it\n"
            ));
        }
        self.check_host(host)
    }

    fn is_known(&self, name: &str) -> bool {
        self.args.page_host.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// A page of somebody else's could have its own name lead here, and read the answers with its visitor's browser.
    fn check_host(&self, host: Option<&str>) -> Result<(), String> {
        // Only browsers matter here, and they always send it.
        let Some(host) = host else { return Ok(()) };
        let name = name_of(host);
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_address || is_local || self.is_known(&name) {
            return Ok(());
        }
        Err(format!(
            "the page is not shown under the name {name:?}, since any name could be made to lead here\n\
             ask for localhost or an address, or start the program with --page-host {name}\n"
        ))
    }
}

/// The host without its port, in lower case; empty where it is none.
fn name_of(host: &str) -> String {
    host.parse::<Authority>().map(|authority| authority.host().to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(from: &[&str], hosts: &[&str]) -> Access {
        let args = PageAccess {
            page_from: from.iter().map(|net| net.parse().unwrap()).collect(),
            page_host: hosts.iter().map(|&host| host.to_owned()).collect(),
        };
        Access::new(args, None)
    }

    fn may(access: &Access, peer: &str, host: &str) -> bool {
        access.check(peer.parse().unwrap(), Some(host), None).is_ok()
    }

    #[test]
    fn this_machine_sees_it_and_nobody_else() {
        let usual = access(&[], &[]);
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(may(&usual, peer, "localhost:10254"), "{peer}");
        }
        for peer in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!may(&usual, peer, "localhost"), "{peer}");
        }
        let open = access(&["192.0.2.0/24"], &[]);
        assert!(may(&open, "192.0.2.1", "192.0.2.9:10254") && may(&open, "::ffff:192.0.2.1", "192.0.2.9"));
        assert!(!may(&open, "198.51.100.1", "192.0.2.9"));
    }

    #[test]
    fn a_name_of_somebody_elses_shows_nothing() {
        let usual = access(&[], &["Server.lan"]);
        for host in ["localhost", "127.0.0.1:1", "[::1]:10254", "a.localhost", "server.lan:10254"] {
            assert!(may(&usual, "127.0.0.1", host), "{host}");
        }
        for host in ["attacker.example", "attacker.example:10254", "localhost.attacker.example", "", "a b"] {
            assert!(!may(&usual, "127.0.0.1", host), "{host}");
        }
    }

    #[test]
    fn replicas_are_let_in_for_those_who_asked_for_the_pages_own_host() {
        let replica: IpAddr = "10.0.0.7".parse().unwrap();
        let args = PageAccess { page_host: vec!["page.example".to_owned()], ..PageAccess::default() };
        let access = Access::new(args, Some(Box::new(move |peer| peer == replica)));
        let may = |peer: &str, forwarded| access.check(peer.parse().unwrap(), Some("page.example"), forwarded).is_ok();
        assert!(may("10.0.0.7", Some("page.example:443")) && !may("10.0.0.8", Some("page.example")));
        // Somebody's Ingress may lead to the replica's own port.
        assert!(!may("10.0.0.7", Some("other.example")) && !may("10.0.0.7", None));
    }
}
