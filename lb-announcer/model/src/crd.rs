//! The custom resources of group `metallb.io`, as Rust types from which the CRDs are made.
//!
//! Kinds, fields, defaults, printer columns and status are `MetalLB`'s, so that objects people already have
//! apply unchanged. What the schema can refuse it refuses (patterns, CEL); the rest becomes a Problem.

#![allow(clippy::duplicated_attributes, reason = "each printer column repeats the words name and type")]

mod bgp;
mod common;
mod l2;
mod old;
mod pool;
mod rules;
mod state;

pub use bgp::{
    BFDProfile, BFDProfileSpec, BGPAdvertisement, BGPAdvertisementSpec, BGPPeer, BGPPeerSpec, Community, CommunitySpec,
    OldBGPPeer, OldBGPPeerSpec, OpenStatus, ServiceBGPStatus, ServiceBGPStatusSpec,
};
pub use common::{Condition, LabelSelector, LabelSelectorRequirement};
pub use l2::{
    InterfaceName, L2Advertisement, L2AdvertisementSpec, L2AdvertisementStatus, NodePreference, ServiceL2Status,
    ServiceL2StatusSpec, ServiceL2StatusStatus,
};
pub use old::{AddressPool, AddressPoolSpec};
pub use pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation, TakenAddress};
pub use state::{ConfigurationState, ConfigurationStateSpec, ConfigurationStateStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::crd::merge_crds;

/// Every `CustomResourceDefinition`, in the order in which they are best applied.
pub fn all() -> Vec<CustomResourceDefinition> {
    let peers = merge_crds(vec![OldBGPPeer::crd(), BGPPeer::crd()], "v1beta2")
        .expect("both versions have the same group, kind and scope");
    vec![
        IPAddressPool::crd(),
        l2::L2AdvertisementDefinition::crd(),
        ServiceL2Status::crd(),
        ConfigurationState::crd(),
        BGPAdvertisement::crd(),
        peers,
        BFDProfile::crd(),
        Community::crd(),
        ServiceBGPStatus::crd(),
    ]
}

#[cfg(test)]
mod tests;
