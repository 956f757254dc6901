//! Which objects are read, from both sources.

use landfall_lb_model::world::Input;
use landfall_shared::source::{Plan, Scope};

use crate::cli::ClusterArgs;

/// What the program is to the objects that it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It decides who has which address.
    Allocates,
    /// It announces what is in the Services' status.
    Announces,
    /// Both.
    Everything,
}

/// The kinds to read; configuration from these namespaces only, where there is an API server.
pub fn plan(namespaces: &[String], role: Role) -> Plan<Input> {
    let configuration = || Scope::all().namespaces(namespaces.iter().cloned()).optional();
    let plan = Plan::new()
        .watch(Scope::all(), Input::Service)
        .watch(Scope::all(), Input::Node)
        .watch(configuration(), Input::Pool)
        .watch(configuration(), Input::L2Advertisement);
    let plan = match role {
        Role::Announces => plan,
        Role::Allocates | Role::Everything => plan
            .watch(Scope::all(), Input::Namespace)
            .watch(configuration(), Input::BgpAdvertisement)
            .watch(configuration(), Input::BgpPeer)
            .watch(configuration(), Input::BfdProfile)
            .watch(configuration(), Input::Community),
    };
    let plan = match role {
        // What was once configured, and would be looked for in vain.
        Role::Everything => plan
            .watch(Scope::all(), Input::OldPool)
            .watch(Scope::all().fields("metadata.name=config"), Input::ConfigMap),
        Role::Allocates | Role::Announces => plan,
    };
    plan.watch(Scope::all(), Input::EndpointSlice)
}

/// The kinds to read in a cluster.
pub fn cluster_plan(cluster: &ClusterArgs, role: Role) -> Plan<Input> {
    let own = || Scope::all().namespaces([cluster.namespace.clone()]).optional();
    let plan = match role {
        Role::Allocates => plan(&cluster.namespaces(), role).watch(own(), Input::L2Status),
        Role::Announces | Role::Everything => plan(&cluster.namespaces(), role),
    };
    plan.watch(own().labels(cluster.speaker_selector.clone()), Input::SpeakerPod)
        .watch(own().labels("metallb.io/component-type=speaker"), Input::ConfigurationState)
}
