//! `check` against an API server: reads what the model judges.

use std::sync::Arc;

use clap::Parser;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use landfall_lb_model::checkup::Facts;
use landfall_lb_model::crd::{BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, L2Advertisement};
use landfall_lb_model::world::{Input, Rules, World};
use landfall_model::{Change, Findings, ObjectKey};
use landfall_shared::look::Look;

use crate::cli::{Cli, Command};
use crate::controller::taken_problems;
use crate::report;

/// What was read of a cluster.
pub(crate) struct Seen {
    /// What surrounds the announcer.
    pub(crate) facts: Facts,
    /// The announcer's own objects.
    pub(crate) world: World,
    /// How they are read.
    pub(crate) rules: Rules,
    /// Where configuration is read from.
    pub(crate) namespaces: [String; 2],
    /// Pools and advertisements that stand elsewhere.
    elsewhere: World,
}

/// Reads everything, at once.
pub(crate) async fn read(look: &Look, namespace: &str, given: &Rules) -> anyhow::Result<Seen> {
    let all = ListParams::default;
    let key = ObjectKey::new("kube-system", "kube-proxy");
    let (own, proxy, nodes, deployments, daemon_sets) = futures::try_join!(
        look.get_cluster::<Namespace>(namespace),
        look.get(&key),
        look.list(all()),
        look.list(all()),
        look.list(all()),
    )?;
    let (pods, services, states, statuses, slices) = futures::try_join!(
        look.list_in(namespace, all()),
        look.list(all()),
        look.list_in(namespace, all()),
        look.list_in(namespace, all()),
        look.list(all()),
    )?;
    let facts = Facts {
        namespace: namespace.to_owned(),
        own,
        proxy,
        nodes: nodes.unwrap_or_default(),
        deployments: deployments.unwrap_or_default(),
        daemon_sets: daemon_sets.unwrap_or_default(),
        pods: pods.unwrap_or_default(),
        services: services.unwrap_or_default(),
        states: states.unwrap_or_default(),
        statuses: statuses.unwrap_or_default(),
    };
    let namespaces = [namespace.to_owned(), "metallb-system".to_owned()];
    let rules = rules(&facts, given);
    let mut seen =
        Seen { world: World::new(rules.clone()), elsewhere: World::new(rules.clone()), facts, rules, namespaces };
    seen.configuration(look).await?;
    let Seen { facts, world, .. } = &mut seen;
    world.apply(Input::Service(Change::Replace(facts.services.clone())));
    world.apply(Input::Node(Change::Replace(facts.nodes.clone())));
    world.apply(Input::EndpointSlice(Change::Replace(slices.unwrap_or_default())));
    let speakers: Vec<_> = facts.speakers().pods().cloned().collect();
    world.apply(Input::SpeakerPod(Change::Replace(speakers)));
    world.apply(Input::ConfigurationState(Change::Replace(facts.states.clone())));
    world.apply(Input::L2Status(Change::Replace(facts.statuses.clone())));
    world.settle();
    Ok(seen)
}

impl Seen {
    async fn configuration(&mut self, look: &Look) -> anyhow::Result<()> {
        let all = ListParams::default;
        let (namespaces, pools, adverts) = futures::try_join!(
            look.list::<Namespace>(all()),
            look.list::<IPAddressPool>(all()),
            look.list::<L2Advertisement>(all()),
        )?;
        let (bgp, peers, profiles, communities) = futures::try_join!(
            look.list::<BGPAdvertisement>(all()),
            look.list::<BGPPeer>(all()),
            look.list::<BFDProfile>(all()),
            look.list::<Community>(all()),
        )?;
        let is_read = |namespace: Option<&String>| namespace.is_some_and(|of| self.namespaces.contains(of));
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            pools.unwrap_or_default().into_iter().partition(|pool| is_read(pool.metadata.namespace.as_ref()));
        self.elsewhere.apply(Input::Pool(Change::Replace(elsewhere)));
        self.world.apply(Input::Pool(Change::Replace(here)));
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            adverts.unwrap_or_default().into_iter().partition(|advert| is_read(advert.metadata.namespace.as_ref()));
        self.elsewhere.apply(Input::L2Advertisement(Change::Replace(elsewhere)));
        self.world.apply(Input::L2Advertisement(Change::Replace(here)));
        self.elsewhere.settle();
        let world = &mut self.world;
        world.apply(Input::Namespace(Change::Replace(namespaces.unwrap_or_default())));
        world.apply(Input::BgpAdvertisement(Change::Replace(bgp.unwrap_or_default())));
        world.apply(Input::BgpPeer(Change::Replace(peers.unwrap_or_default())));
        world.apply(Input::BfdProfile(Change::Replace(profiles.unwrap_or_default())));
        world.apply(Input::Community(Change::Replace(communities.unwrap_or_default())));
        Ok(())
    }

    /// Everything there is to say of it.
    pub(crate) fn judge(&mut self) -> Findings {
        let mut findings = self.facts.platform(&self.rules);
        findings.extend(self.facts.parts());
        let namespaces = self.namespaces.clone();
        findings.extend(self.facts.addresses(&mut self.world, &namespaces));
        for problem in self.elsewhere.review(&namespaces) {
            findings.bad("pools", problem);
        }
        for problem in taken_problems(&self.world, &self.world.reported_taken()) {
            findings.bad("pools", problem);
        }
        if self.facts.states.is_empty() {
            findings.unknown(
                "heartbeats",
                "whether UDP port 7946 is open between the nodes is known when speakers run; ufw and firewalld block it",
            );
        } else {
            findings.all("heartbeats", report::unheard_problems(&self.world), "the speakers hear each other");
        }
        findings
    }
}

/// What the controller was started with, where it is installed; else what `check` was.
fn rules(facts: &Facts, given: &Rules) -> Rules {
    let ours = facts.deployments.iter().find(|object| facts.controller().owns(&object.metadata));
    let started = ours.and_then(arguments).and_then(|arguments| match Cli::try_parse_from(arguments).ok()?.command {
        Command::Controller(args) => Some(args.rules),
        _ => None,
    });
    let speakers = facts.speaker_rule();
    match started {
        Some(args) => args.rules(speakers),
        None => Rules { speakers, ..given.clone() },
    }
}

fn arguments(object: &Arc<Deployment>) -> Option<Vec<String>> {
    let container = object.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let name = std::iter::once("landfall-lb-announcer".to_owned());
    Some(name.chain(container.args.iter().flatten().cloned()).collect())
}
