//! Who on the LAN answers for addresses of pools, as far as this machine is on that LAN.

use landfall_lb_model::checkup::answers;
use landfall_lb_model::world::World;
use landfall_model::Findings;

use crate::probe::{self, Trouble};

/// Addresses that are asked for at most: a /24 fits.
const MOST: usize = 256;

/// Asks for the addresses that Services have, and for free ones of the pools.
pub(super) async fn judge(world: &World) -> Findings {
    let mut findings = Findings::new();
    let asked = answers::questions(world, MOST);
    if asked.is_empty() {
        return findings;
    }
    match probe::ask(&asked).await {
        Ok(heard) => {
            let good =
                format!("of the {} addresses that the LAN was asked for, none is answered by a stranger", asked.len());
            findings.all("arp", answers::judge(world, &heard, &asked), good);
        }
        Err(trouble @ (Trouble::NotOnLan | Trouble::NoRight)) => {
            findings
                .unknown("arp", format!("whether strangers answer for addresses of the pools is not known: {trouble}"));
        }
        Err(Trouble::Io(error)) => findings.unknown("arp", format!("cannot ask the LAN by ARP: {error}")),
    }
    findings
}
