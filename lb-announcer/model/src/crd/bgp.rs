//! The BGP kinds: accepted so that existing manifests apply, and reported as not served.
//!
//! Their content is kept as it was written and never looked at.

#![allow(clippy::doc_markdown, reason = "the comments are the CRDs' descriptions")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Any status at all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct OpenStatus(pub BTreeMap<String, serde_json::Value>);

impl JsonSchema for OpenStatus {
    fn schema_name() -> Cow<'static, str> {
        "OpenStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        open_object()
    }
}

fn open_object() -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Declares a kind whose spec may hold anything.
macro_rules! open_kind {
    ($spec:ident, $kind:literal, $plural:literal, $singular:literal, $about:literal $(, $extra:meta)*) => {
        #[doc = $about]
        #[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[kube(
            group = "metallb.io",
            kind = $kind,
            plural = $plural,
            singular = $singular,
            namespaced,
            status = "OpenStatus",
            derive = "PartialEq",
            doc = $about
        )]
        $(#[$extra])*
        #[serde(transparent)]
        pub struct $spec(pub BTreeMap<String, serde_json::Value>);

        impl JsonSchema for $spec {
            fn schema_name() -> Cow<'static, str> {
                stringify!($spec).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                open_object()
            }
        }
    };
}

open_kind!(
    BGPAdvertisementSpec,
    "BGPAdvertisement",
    "bgpadvertisements",
    "bgpadvertisement",
    "BGPAdvertisement is accepted and not served: there is no BGP speaker.",
    kube(
        version = "v1beta1",
        printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
        printcolumn(name = "IPAddressPool Selectors", type_ = "string", json_path = ".spec.ipAddressPoolSelectors"),
        printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
        printcolumn(name = "Node Selectors", type_ = "string", json_path = ".spec.nodeSelectors", priority = "10")
    )
);
open_kind!(
    BGPPeerSpec,
    "BGPPeer",
    "bgppeers",
    "bgppeer",
    "BGPPeer is accepted and not served: there is no BGP speaker.",
    kube(
        version = "v1beta2",
        printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
        printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
        printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
        printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop")
    )
);
open_kind!(
    OldBGPPeerSpec,
    "BGPPeer",
    "bgppeers",
    "bgppeer",
    "BGPPeer in its older version is accepted and not served: there is no BGP speaker.",
    kube(
        version = "v1beta1",
        root = "OldBGPPeer",
        deprecated = "v1beta1 is deprecated, please use v1beta2",
        printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
        printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
        printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
        printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop")
    )
);
open_kind!(
    BFDProfileSpec,
    "BFDProfile",
    "bfdprofiles",
    "bfdprofile",
    "BFDProfile is accepted and not served: there is no BGP speaker.",
    kube(
        version = "v1beta1",
        printcolumn(name = "Passive Mode", type_ = "boolean", json_path = ".spec.passiveMode"),
        printcolumn(name = "Transmit Interval", type_ = "integer", json_path = ".spec.transmitInterval"),
        printcolumn(name = "Receive Interval", type_ = "integer", json_path = ".spec.receiveInterval"),
        printcolumn(name = "Multiplier", type_ = "integer", json_path = ".spec.detectMultiplier")
    )
);
open_kind!(
    CommunitySpec,
    "Community",
    "communities",
    "community",
    "Community is accepted and not served: there is no BGP speaker.",
    kube(version = "v1beta1")
);
open_kind!(
    ServiceBGPStatusSpec,
    "ServiceBGPStatus",
    "servicebgpstatuses",
    "servicebgpstatus",
    "ServiceBGPStatus exists so that clients that list it find the kind; none is ever made.",
    kube(
        version = "v1beta1",
        printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
        printcolumn(name = "Service Name", type_ = "string", json_path = ".status.serviceName"),
        printcolumn(name = "Service Namespace", type_ = "string", json_path = ".status.serviceNamespace")
    )
);
