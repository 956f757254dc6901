//! What is found out before the CA is asked.

use futures::future::join_all;
use landfall_ingress_model::acme::challenges::{Challenge, ChallengeKind};
use landfall_ingress_model::acme::trouble::Failure;

use super::{Ended, Run, storing};
use crate::acme::dns;
use crate::acme::edge::PROBE;
use crate::acme::probe;
use crate::acme::settings::SelfCheck;

impl Run<'_> {
    /// The hosts at which our own check finds a challenge, or whose records can be set. The others are left out of the
    /// order, unless what is served is for them.
    pub(super) async fn reachable(&mut self) -> Result<Vec<String>, Ended> {
        let hosts = &self.order.hosts;
        if self.edge.self_check == SelfCheck::Off {
            return Ok(hosts.clone());
        }
        let first = |host: &String| self.order.issuer.kinds(host).first().copied();
        let (by_dns, others): (Vec<String>, Vec<String>) =
            hosts.iter().cloned().partition(|host| first(host) == Some(ChallengeKind::Dns01));
        let mut unproven = dns::check(self.edge, &self.order.issuer, &by_dns).await;
        unproven.extend(self.probe(&others).await?);
        self.unproven = unproven;
        let is_unproven = |host: &String| self.unproven.iter().any(|(unproven, _)| unproven == host);
        if self.order.kept.iter().any(is_unproven) {
            return Err(Ended::default());
        }
        // The same certificate once more would be of no use, and CAs count them.
        let added = &self.order.added;
        if !added.is_empty() && added.iter().all(is_unproven) {
            return Err(Ended::default());
        }
        Ok(hosts.iter().filter(|host| !is_unproven(host)).cloned().collect())
    }

    /// Looks for challenges of our own at hosts, as the CA will; says where there is none.
    async fn probe(&self, hosts: &[String]) -> Result<Vec<(String, Failure)>, Ended> {
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        let issuer = &self.order.issuer;
        let probe = |host: &String| Challenge {
            kind: issuer.kinds(host).first().copied().unwrap_or(ChallengeKind::Http01),
            host: host.clone(),
            token: format!("landfall-{:032x}", rand::random::<u128>()),
            key_authorization: format!("landfall-{:032x}", rand::random::<u128>()),
        };
        let challenges: Vec<Challenge> = hosts.iter().map(probe).collect();
        let name = format!("{}{PROBE}", self.order.secret);
        self.edge.show(&name, challenges.clone()).await.map_err(|error| storing(&error))?;
        let checks = challenges.iter().map(async |challenge| {
            let found = probe::check(&self.edge.names, challenge, issuer.ports, self.edge.self_check).await;
            (challenge.host.clone(), found)
        });
        let found = join_all(checks).await;
        self.edge.withdraw(&name);
        Ok(found.into_iter().filter_map(|(host, found)| Some((host, found.err()?))).collect())
    }
}
