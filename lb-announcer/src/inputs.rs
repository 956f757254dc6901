//! Which objects are read, from both sources.

use landfall_lb_model::world::Input;
use landfall_shared::source::{Plan, Scope};

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
    plan.watch(Scope::all(), Input::EndpointSlice)
}
